"""One image: the network's input, what is cut out of its scores, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import (
    Network,
    Settings,
    full_scores,
    small_scores,
)
from caffe_port.evaluation.refinement import best_labels, label_maps
from caffe_port.evaluation.score_net import network_input

SETTINGS = Settings(crop=(9, 17), mean=(1.0, 2.0, 3.0))
IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def predict(image, classify, refiner, settings, enlarge=None):
    network, size = Network(classify, enlarge), image.shape[:2]
    scores = small_scores(network_input(image, settings), network, settings, size)
    return label_maps(full_scores(scores, network, settings, size), image, refiner)


def test_the_mean_is_subtracted_per_channel_and_padding_is_zero():
    data = network_input(IMAGE, SETTINGS)
    assert data.shape == (1, 3, 9, 17)
    assert data.dtype == np.float32
    for c in range(3):
        np.testing.assert_array_equal(data[0, c, :5, :7], IMAGE[..., c] - np.float32(c + 1))
    assert (data[:, :, 5:] == 0).all()
    assert (data[:, :, :, 7:] == 0).all()


def test_an_image_of_the_crops_size_fits_and_a_larger_one_does_not():
    assert network_input(np.zeros((9, 17, 3), np.uint8), SETTINGS).shape == (1, 3, 9, 17)
    with pytest.raises(DataError, match=r"18x9, larger than the crop 17x9; .* such as 25"):
        network_input(np.zeros((9, 18, 3), np.uint8), SETTINGS)


def test_scores_are_cut_and_the_lowest_of_equal_classes_wins():
    def network(x):
        scores = np.zeros((1, 3, 9, 17), np.float32)
        scores[0, 1, 0] = scores[0, 2, 0] = 1  # classes 1 and 2 tie in the first row
        scores[0, 2, 5:] = 9  # padding
        return scores

    result = predict(IMAGE, network, None, SETTINGS)
    assert result.before.dtype == np.uint8
    assert result.before.tolist() == [[1] * 7, *[[0] * 7] * 4]
    assert (result.after, result.classes) == (None, 3)


@pytest.mark.parametrize("classes", [1, 2, 21, 255])
def test_the_best_labels_are_argmaxs_with_many_ties(classes):
    scores = np.random.default_rng(classes).integers(-3, 3, (classes, 13, 17)).astype(np.float32)
    labels = best_labels(scores)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scores.argmax(axis=0))


def test_the_refinement_gets_the_cut_scores_and_the_image():
    seen = {}

    def refiner(scores, image):
        seen.update(scores=scores, image=image)
        return scores.argmin(axis=0).astype(np.uint8)

    scores = np.random.default_rng(1).random((1, 4, 9, 17), dtype=np.float32)
    result = predict(IMAGE, lambda x: scores, refiner, SETTINGS)
    np.testing.assert_array_equal(seen["scores"], scores[0, :, :5, :7])
    assert seen["scores"].flags.c_contiguous
    np.testing.assert_array_equal(seen["image"], IMAGE)
    np.testing.assert_array_equal(result.after, scores[0, :, :5, :7].argmin(axis=0))


def test_small_scores_are_enlarged_before_they_are_cut():
    small = np.random.default_rng(2).random((1, 4, 3, 17), dtype=np.float32)
    result = predict(IMAGE, lambda x: small, None, SETTINGS, lambda x: x.repeat(3, 2))
    np.testing.assert_array_equal(result.before, small[0].argmax(0).repeat(3, 0)[:5, :7])


@pytest.mark.parametrize("shape", [(1, 3, 2, 3), (2, 3, 9, 17), (3, 9, 17), (1, 3, 10, 17)])
def test_scores_of_another_size_are_refused(shape):
    with pytest.raises(UsageError, match=r"expected \(1, classes, (9, 17|height, width)\)"):
        predict(IMAGE, lambda x: np.zeros(shape, np.float32), None, SETTINGS)


def test_small_scores_that_do_not_grow_to_the_crop_are_refused():
    small = np.zeros((1, 4, 3, 17), np.float32)
    with pytest.raises(UsageError, match=r"expected \(1, classes, 9, 17\)"):
        predict(IMAGE, lambda x: small, None, SETTINGS, lambda x: x.repeat(2, 2))


@pytest.mark.parametrize("classes", [0, 256])
def test_impossible_numbers_of_classes_are_refused(classes):
    with pytest.raises(UsageError, match="of 1 to 255 classes"):
        predict(IMAGE, lambda x: np.zeros((1, classes, 9, 17), np.float32), None, SETTINGS)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(UsageError, match="not finite"):
        predict(IMAGE, lambda x: np.full((1, 2, 9, 17), np.nan, np.float32), None, SETTINGS)


@pytest.mark.parametrize(
    "options", [{"crop": (0, 5)}, {"ignore_label": 256}, {"mean": (0.0, np.nan, 0.0)}]
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(UsageError):
        Settings(**options)
