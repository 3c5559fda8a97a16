"""The confusion matrix: figures by hand, absent classes, refusals, Caffe's own result."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_port.data.images import read_labels
from caffe_port.data.voc import voc_items
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.scoring import ConfusionMatrix
from tests.goldens_dir import SHAPES


def matrix_of(truth, prediction, classes):
    matrix = ConfusionMatrix(classes)
    matrix.add(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    return matrix


def test_rows_are_truth_and_255_does_not_count():
    matrix = matrix_of([[0, 0, 1, 255]], [[0, 1, 1, 0]], 2)
    assert matrix.counts.tolist() == [[1, 1], [0, 1]]
    assert matrix.counts.dtype == np.int64
    assert matrix.pixels == 3


def test_figures_by_hand():
    matrix = matrix_of([[0, 0, 0, 1, 1, 2]], [[0, 0, 1, 1, 2, 2]], 3)
    assert matrix.iou().tolist() == [2 / 3, 1 / 3, 1 / 2]
    assert matrix.mean_iou() == pytest.approx(0.5)
    assert matrix.pixel_accuracy() == pytest.approx(4 / 6)
    assert matrix.recall().tolist() == [2 / 3, 1 / 2, 1]
    assert matrix.mean_recall() == pytest.approx(13 / 18)


def test_absent_classes_are_left_out_and_named():
    matrix = matrix_of([[0, 0, 1]], [[0, 3, 1]], 5)
    assert matrix.absent == [2, 4]
    assert np.isnan(matrix.iou()).tolist() == [False, False, True, False, True]
    assert matrix.mean_iou() == pytest.approx((0.5 + 1 + 0) / 3)
    assert matrix.mean_recall() == pytest.approx(0.75)  # class 3 is not in the truth


def test_without_pixels_there_are_no_figures():
    matrix = matrix_of([[255]], [[0]], 2)
    assert math.isnan(matrix.mean_iou())
    assert math.isnan(matrix.pixel_accuracy())
    assert math.isnan(matrix.mean_recall())
    assert matrix.absent == [0, 1]


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[3]], [[0]], "truth holds label 3, outside the 3 classes 0 to 2"),
        ([[0]], [[7]], "prediction holds label 7"),
        ([[0, 1]], [[0]], "truth is"),
    ],
)
def test_labels_outside_the_classes_are_refused(truth, prediction, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(DataError, match=message):
        matrix.add(np.array(truth), np.array(prediction))
    assert matrix.pixels == 0


def test_another_ignored_label():
    matrix = ConfusionMatrix(2, ignore_label=0)
    matrix.add(np.array([[0, 1]]), np.array([[1, 1]]))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_what_cannot_be_a_matrix_is_refused():
    for classes in (0, 256):
        with pytest.raises(UsageError, match="1 to 255 classes"):
            ConfusionMatrix(classes)
    for counts in ([[1]], [[0, -1], [0, 0]]):
        with pytest.raises(UsageError, match="counts"):
            ConfusionMatrix(2, counts=counts)
    with pytest.raises(UsageError, match="2 and 3 classes"):
        ConfusionMatrix(2).merge(ConfusionMatrix(3))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_merging_parts_equals_adding_everything(seed, classes):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (4, 9))
    truth[random.random((4, 9)) < 0.2] = 255
    prediction = random.integers(0, classes, (4, 9))
    whole, first, second = (ConfusionMatrix(classes) for _ in range(3))
    whole.add(truth, prediction)
    first.add(truth[:2], prediction[:2])
    second.add(truth[2:], prediction[2:])
    first.merge(second)
    assert np.array_equal(first.counts, whole.counts)
    for c in range(classes):
        right = ((truth == c) & (prediction == c)).sum()
        union = ((truth != 255) & ((truth == c) | (prediction == c))).sum()
        expected = right / union if union else math.nan
        assert np.isclose(whole.iou()[c], expected, equal_nan=True)


@pytest.mark.parametrize("key", ["raw", "crf"])
def test_caffes_label_maps_give_caffes_figures(key):
    caffe = json.loads((SHAPES / "caffe_run" / "result_val.json").read_text())[key]
    matrix = ConfusionMatrix(6)
    with np.load(SHAPES / "caffe_run" / "result_val.npz") as maps:
        for item in voc_items(SHAPES):
            matrix.add(read_labels(item.label), maps[f"{key}/{item.id}"])
    assert matrix.counts.tolist() == caffe["confusion"]
    assert matrix.mean_iou() == caffe["mean_iou"]
    assert matrix.pixel_accuracy() == caffe["pixel_accuracy"]
    np.testing.assert_allclose(matrix.iou(), caffe["per_class"], atol=5e-7)
