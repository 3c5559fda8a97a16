"""Bands along void boundaries, against hand counts and a slow dilation."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.data.voc import VOCItem
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.boundary import (
    Trimap,
    distances,
    trimap_curves,
    trimap_json,
    trimap_section,
)
from caffe_port.evaluation.network import Options
from caffe_port.evaluation.scoring import ConfusionMatrix
from tests.evaluation.standins import CROP, Brightest, Gives, Swaps, evaluate


def slow_band(void, d):
    """The void dilated by a (2 d + 1) square, without the void, pixel by pixel."""
    band = np.zeros_like(void)
    for y, x in zip(*np.nonzero(void), strict=True):
        band[max(y - d, 0) : y + d + 1, max(x - d, 0) : x + d + 1] = True
    return band & ~void


def test_a_row_counted_by_hand():
    truth = np.array([[0, 0, 0, 255, 1, 1, 1]], np.uint8)
    prediction = np.array([[0, 0, 1, 0, 1, 0, 0]], np.uint8)
    trimap = Trimap(2, widest=4)
    trimap.add(truth, prediction, distances(truth == 255))
    counts = [matrix.counts.tolist() for matrix in trimap.matrices()]
    assert counts == [
        [[0, 1], [0, 1]],  # columns 2 and 4
        [[1, 1], [1, 1]],  # and 1 and 5
        [[2, 1], [2, 1]],  # and 0 and 6
        [[2, 1], [2, 1]],  # no column is farther
    ]
    assert trimap.mean_iou() == pytest.approx([0.25, 1 / 3, (2 / 5 + 1 / 4) / 2, 0.325])


def test_the_band_is_a_square_around_a_corner():
    void = np.zeros((5, 5), bool)
    void[1, 1] = True
    assert distances(void).tolist() == [
        [1, 1, 1, 2, 3],
        [1, 0, 1, 2, 3],
        [1, 1, 1, 2, 3],
        [2, 2, 2, 2, 3],
        [3, 3, 3, 3, 3],
    ]


@pytest.mark.parametrize("seed", range(6))
def test_against_a_slow_dilation_over_several_images(seed):
    random = np.random.default_rng(seed)
    trimap, slow = Trimap(4, widest=12), [ConfusionMatrix(4) for _ in range(12)]
    for _ in range(3):
        shape = tuple(random.integers(1, 30, 2))
        truth = random.integers(0, 4, shape, dtype=np.uint8)
        prediction = random.integers(0, 4, shape, dtype=np.uint8)
        truth[random.random(shape) < 0.02] = 255
        void = truth == 255
        trimap.add(truth, prediction, distances(void))
        for d, matrix in enumerate(slow, 1):
            band = slow_band(void, d)
            matrix.add(truth[band], prediction[band])
    for fast, expected in zip(trimap.matrices(), slow, strict=True):
        assert np.array_equal(fast.counts, expected.counts)


def test_without_void_nothing_counts():
    truth = np.zeros((3, 60), np.uint8)
    trimap = Trimap(2)
    trimap.add(truth, truth, distances(truth == 255))
    assert [matrix.pixels for matrix in trimap.matrices()] == [0] * 40
    assert np.isnan(trimap.mean_iou()).all()


@pytest.mark.parametrize("height", [1, 2, 40])
def test_an_image_of_no_void_is_in_no_band_however_small(height):
    truth = np.zeros((height, 1), np.uint8)
    trimap = Trimap(2)
    trimap.add(truth, truth, distances(truth == 255))
    assert trimap.matrices()[-1].pixels == 0


def test_wrong_arguments():
    with pytest.raises(UsageError, match="at least 1 pixel"):
        Trimap(2, widest=0)
    truth = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match=r"the prediction \(2, 3\)"):
        Trimap(2).add(truth, np.zeros((2, 3), np.uint8), distances(truth == 255))


def test_of_an_evaluation(voc, tmp_path):
    items, truths = voc
    result = evaluate(items, Brightest(), tmp_path / "out", CROP, make_refiner=Swaps())
    curves = trimap_curves(result)
    # only the last row is void, so the widest band holds all that counts
    assert np.array_equal(curves.before.matrices()[-1].counts, result.before.counts)
    assert np.array_equal(curves.after.matrices()[-1].counts, result.after.counts)
    assert curves.before.matrices()[0].pixels == sum(truth.shape[1] for truth in truths)
    values = trimap_json(curves)
    assert values["after"]["mean_iou"][-1] == result.after.mean_iou()
    assert values["pixels_wide"] == list(range(1, 41))
    text = trimap_section(curves)
    assert text.count('class="curve"') == 2
    assert f"{100 * result.after.mean_iou():.3f}" in text


def test_without_a_refinement_there_is_one_curve(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP)
    curves = trimap_curves(result)
    assert curves.after is None
    assert trimap_json(curves)["after"] is None
    assert trimap_section(curves).count('class="curve"') == 1


def test_labels_beyond_the_classes_are_no_boundary(voc, tmp_path):
    settings = Options(CROP.crop, CROP.mean, unknown_labels="ignore")
    shape = (1, 2, *CROP.crop)
    result = evaluate(voc[0], Gives(shape=shape), tmp_path / "out", settings)
    curves = trimap_curves(result)
    known = [truth[-2] < 2 for truth in voc[1]]  # the row beside the void one
    assert curves.before.matrices()[0].pixels == sum(int(row.sum()) for row in known)


def test_failed_images_are_left_out_and_no_truth_is_an_error(voc, tmp_path):
    items = voc[0]
    items[1].image.write_bytes(b"")
    result = evaluate(items, Brightest(), tmp_path / "out", CROP, skip_bad=True)
    curves = trimap_curves(result)
    assert curves.before.matrices()[-1].pixels == result.before.pixels
    bare = [VOCItem(item.id, item.image, None, item.where) for item in items[2:]]
    result = evaluate(bare, Brightest(), tmp_path / "bare", CROP)
    with pytest.raises(UsageError, match="needs label maps"):
        trimap_curves(result)
