"""The DenseCRF layer: real areas, batches, the logarithm, and bottoms that do not fit."""

import numpy as np
import pytest

from caffe_port.crf import CRFParameters, DenseCRF, dense_crf_forward
from caffe_port.errors import UsageError
from tests.crf.making import problem

SETTINGS = CRFParameters((3,), (2,), (4,), (20,), (8,), iterations=3)


def bottoms(number=2, labels=3, height=9, width=11):
    items = [problem(height, width, labels, seed) for seed in range(number)]
    data = np.stack([image.transpose(2, 0, 1).astype(np.float32) - 100 for image, _ in items])
    return np.stack([-unary for _, unary in items]), data


def dims(*sizes):
    return np.array(sizes, np.float32).reshape(-1, 1, 1, 2)


def infer(scores, data, parameters=SETTINGS):
    labels, height, width = scores.shape
    crf = DenseCRF(height, width, labels, exact=True)
    for weight, sxy in zip(parameters.pos_w, parameters.pos_xy_std, strict=True):
        crf.add_gaussian(sxy, weight=weight)
    image = data.transpose(1, 2, 0)
    crf.add_bilateral(parameters.bi_xy_std[0], parameters.bi_rgb_std[0], image, weight=4)
    return crf.infer(-scores, parameters.iterations)


def test_each_item_has_its_own_colours_and_area():
    scores, data = bottoms()
    q = dense_crf_forward(scores, dims((9, 11), (6, 8)), data, SETTINGS)
    assert np.array_equal(q[0], infer(scores[0], data[0]))
    assert np.array_equal(q[1, :, :6, :8], infer(scores[1, :, :6, :8], data[1, :, :6, :8]))
    assert not q[1, :, 6:].any()
    assert not q[1, :, :, 8:].any()


def test_an_image_larger_than_the_grid_was_cropped():
    scores, data = bottoms(1)
    whole = dense_crf_forward(scores, dims((9, 11)), data, SETTINGS)
    assert np.array_equal(dense_crf_forward(scores, dims((300, 400)), data, SETTINGS), whole)
    partly = dense_crf_forward(scores, dims((300, 8)), data, SETTINGS)
    assert np.array_equal(partly[0, :, :, :8], infer(scores[0, :, :, :8], data[0, :, :, :8]))


def test_the_logarithm_is_floored_and_zero_in_the_padding():
    scores, data = bottoms(1)
    q = dense_crf_forward(100 * scores, dims((9, 10)), data, SETTINGS)
    log = dense_crf_forward(100 * scores, dims((9, 10)), data, SETTINGS, output_probability=False)
    floor = np.log(np.float64(np.finfo(np.float32).tiny)).astype(np.float32)
    assert (q[..., :10] == 0).any()
    assert (log[..., :10][q[..., :10] == 0] == floor).all()
    assert np.allclose(np.exp(log[..., :10].astype(float)), q[..., :10], rtol=1e-6, atol=1e-37)
    assert not log[..., 10:].any()


def test_without_colours_only_positions_count():
    scores, _ = bottoms(1)
    positions = CRFParameters((3,), (2,), (), (), (), iterations=3)
    got = dense_crf_forward(scores, dims((9, 11)), None, positions)
    want = DenseCRF(9, 11, 3, exact=True).add_gaussian(2, weight=3).infer(-scores[0], 3)
    assert np.array_equal(got[0], want)


SCORES, DATA = bottoms(1)


@pytest.mark.parametrize(
    ("scores", "data_dim", "data", "message"),
    [
        (SCORES[0], dims((9, 11)), DATA, "scores has shape"),
        (SCORES.astype(np.int32), dims((9, 11)), DATA, "scores has dtype int32"),
        (SCORES, dims((9, 11), (9, 11)), DATA, "data_dim has shape"),
        (SCORES, dims((0, 11)), DATA, "data_dim of item 0"),
        (SCORES, dims((9, -1)), DATA, "data_dim of item 0"),
        (SCORES, dims((9, np.nan)), DATA, "data_dim.* is nan"),
        (SCORES, dims((9, 11)), DATA[:, :2], "data has shape"),
        (SCORES, dims((9, 11)), DATA[:, :, :8], "data has shape"),
        (SCORES, dims((9, 11)), None, "needs the image"),
        (SCORES * np.float32(np.inf), dims((9, 11)), DATA, "scores.* must be finite"),
        (SCORES, dims((9, 11)), DATA * np.float32(np.nan), "must be finite"),
    ],
)
def test_bottoms_that_do_not_fit_are_refused(scores, data_dim, data, message):
    with pytest.raises(UsageError, match=message):
        dense_crf_forward(scores, data_dim, data, SETTINGS)
