"""Where points lie: counted by hand on small maps."""

import math
from collections import Counter

import numpy as np
import pytest

from caffe_port.unravel.measures import Evidence, evidence, summarize

#   the object 1 on the left, 2 on the right, an ignored column between them
REGIONS = np.array([[1, 1, 255, 2, 0, 0]] * 4, np.uint8)


def evidence_of(*places, peak=(0, 0), label=1):
    points = np.array([(0, y, x) for y, x in places], np.int32).reshape(-1, 3)
    heat = np.zeros((8, 8))
    heat[peak] = 1
    return evidence(points, heat, label, REGIONS)


def test_points_are_counted_by_class():
    found = evidence_of((0, 0), (1, 1), (2, 3), (3, 5), (0, 2), (7, 0), (0, 6))
    assert found.on == Counter({1: 2, 2: 1, 0: 1})
    assert (found.ignored, found.padding) == (1, 2)
    assert found.inside == pytest.approx(2 / 6)
    assert (found.region, found.pixels) == (8, 20)
    assert found.chance == pytest.approx(8 / 20)
    # the points outside are 2 and 4 columns from the region
    assert found.distance == pytest.approx(3)


@pytest.mark.parametrize(("peak", "hit"), [((3, 1), True), ((0, 4), False), ((0, 2), None)])
def test_the_pointing_game(peak, hit):
    assert evidence_of((0, 0), peak=peak).hit is hit


def test_a_peak_in_the_padding_is_the_images_own():
    # the padding's heat does not count: the image's hottest pixel does, here the first
    assert evidence_of((0, 0), peak=(7, 7)).hit is True


def test_no_points():
    found = evidence_of()
    assert math.isnan(found.inside)
    assert math.isnan(found.distance)
    assert summarize([found]).cases == 0


def case(label, on, hit, padding=0, region=5, distance=2.0):
    return Evidence(label, region, 20, Counter(on), 0, padding, distance, hit)


def test_a_summary_is_a_mean_of_shares():
    total = summarize([
        case(1, {1: 3, 2: 1}, True),
        case(1, {1: 10, 0: 20, 2: 10}, False, distance=6.0),
        case(1, {1: 1}, None, padding=1, distance=math.nan),
        case(3, {1: 5}, False, region=0),  # not in the image: left out
    ])  # fmt: skip
    assert total.cases == 3
    assert total.inside == pytest.approx((0.75 + 0.25 + 0.5) / 3)
    assert total.hits == pytest.approx(1 / 2)
    assert total.chance == total.hit_chance == pytest.approx(0.25)
    assert total.context == pytest.approx({2: (0.25 + 0.25) / 3, 0: 0.5 / 3})
    assert total.padding == pytest.approx(0.5 / 3)
    assert total.distance == 4
    assert total.inside + sum(total.context.values()) + total.padding == pytest.approx(1)


def test_nothing_to_summarize():
    total = summarize([])
    assert total.cases == 0
    assert math.isnan(total.inside)
    assert math.isnan(total.distance)
