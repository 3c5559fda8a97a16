"""Outliers, the density and the overlay."""

import numpy as np
import pytest

from caffe_port.unravel.drawing import clustered, density, heat_map, overlay, spread


def points(*places):
    return np.array([(0, y, x) for y, x in places], np.int32).reshape(-1, 3)


def test_an_isolated_point_is_left_out():
    # 2 % of 513 by 513's diagonal is 14.51 pixels; 5 % of 21 points is 1.05
    crowd = [(100, 100 + i) for i in range(20)]
    kept = clustered(points(*crowd, (400, 400)), (513, 513))
    assert kept.tolist() == points(*crowd).tolist()


@pytest.mark.parametrize(("distance", "kept"), [(14, 3), (15, 0)])
def test_near_is_below_two_percent_of_the_diagonal(distance, kept):
    # of 40 points more than 2 must be near, the point itself among them
    crowd = [(10, 10)] * 37
    three = [(300, 300), (300, 300), (300, 300 + distance)]
    found = clustered(points(*crowd, *three), (513, 513))
    assert len(found) == 37 + kept


def test_channels_of_one_pixel_count_each():
    same = np.array([(c, 9, 9) for c in range(3)] + [(0, 300, 300)], np.int32)
    assert len(clustered(same, (513, 513))) == 4  # 1 > 0.05 * 4: with few points none is lonely


def test_no_points():
    empty = points()
    assert len(clustered(empty, (20, 20))) == 0
    assert not heat_map(empty, (20, 20)).any()


def test_if_all_are_isolated_all_count():
    grid = points(*[(y, x) for y in range(0, 500, 50) for x in range(0, 500, 50)])
    assert len(clustered(grid, (513, 513))) == 0
    assert heat_map(grid, (513, 513))[50, 50] > 0.5


def test_the_density_is_gaussian():
    heat = density(points((60, 50)), (129, 129))
    sigma = spread((129, 129))
    assert sigma == pytest.approx(75 * 258 / 875 / 4)
    assert heat[60, 50] == 1
    for distance in (3, 7):
        want = np.exp(-(distance**2) / (2 * sigma**2))
        assert heat[60 + distance, 50] == pytest.approx(want, rel=1e-6)
        assert heat[60, 50 - distance] == pytest.approx(want, rel=1e-6)


def test_the_overlay_keeps_pixels_without_heat():
    picture = np.full((20, 30, 3), 100, np.uint8)
    heat = np.zeros((40, 40))
    heat[5, 6] = 1
    drawn = overlay(picture, heat)
    assert drawn.shape == picture.shape
    assert (drawn[10, 10] == 100).all()
    # 0.4 of the picture and 0.6 of the hottest colour
    assert drawn[5, 6].tolist() == [175, 64, 58]
