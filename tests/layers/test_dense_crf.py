"""DenseCRF as a layer: the options reach the engine, real areas, refusals."""

import numpy as np
import pytest
import torch

from caffe_port.crf import DenseCRF
from caffe_port.errors import LayerError
from tests.layers.helpers import layer

SHAPES = (1, 3, 8, 9), (1, 1, 1, 2), (1, 3, 8, 9)
KERNELS = (
    "max_iter: 4 pos_w: 2 pos_xy_std: 1.5 bi_w: 3 bi_xy_std: 10 bi_rgb_std: 6 "
    "pos_w: 1 pos_xy_std: 3"
)


def text(options, bottoms=3):
    blobs = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    return f'type: "DenseCRF" {blobs} top: "q" dense_crf_param {{ {options} }}'


def bottoms(height=8, width=9):
    rng = np.random.default_rng(5)
    scores = torch.from_numpy(rng.normal(size=SHAPES[0]).astype(np.float32))
    data = torch.from_numpy(rng.integers(-100, 100, SHAPES[2]).astype(np.float32))
    return scores, torch.tensor([[[[height, width]]]], dtype=torch.float32), data


def engine(scores, data):
    crf = DenseCRF(*scores.shape[2:], labels=3)
    crf.add_gaussian(1.5, weight=2).add_gaussian(3, weight=1)
    crf.add_bilateral(10, 6, data[0].permute(1, 2, 0).contiguous().numpy(), weight=3)
    return torch.from_numpy(crf.infer(-scores[0].contiguous().numpy(), 4))


@pytest.mark.parametrize("dialect", ["deeplab1", "deeplab2"])
def test_the_options_reach_the_engine(dialect):
    scores, size, data = bottoms()
    (q,) = layer(text(KERNELS), *SHAPES, dialect=dialect)(scores, size, data)
    assert torch.allclose(q[0], engine(scores, data), atol=1e-6)
    assert torch.allclose(q.sum(1), torch.ones(1, 8, 9), atol=1e-5)


def test_only_the_real_area_is_inferred():
    scores, size, data = bottoms(5, 7)
    (q,) = layer(text(KERNELS), *SHAPES)(scores, size, data)
    assert torch.allclose(
        q[0, :, :5, :7], engine(scores[..., :5, :7], data[..., :5, :7]), atol=1e-6
    )
    assert not q[..., 5:, :].any()
    assert not q[..., 7:].any()


def test_logarithms():
    scores, size, data = bottoms()
    (q,) = layer(text(KERNELS), *SHAPES)(scores, size, data)
    (log,) = layer(text(KERNELS + " output_probability: false"), *SHAPES)(scores, size, data)
    assert torch.allclose(log.exp(), q, atol=1e-6)


def test_without_bilateral_kernels_two_bottoms_do():
    scores, size, _ = bottoms()
    options = "max_iter: 2 pos_w: 1 pos_xy_std: 2"
    (q,) = layer(text(options, 2), *SHAPES[:2])(scores, size)
    crf = DenseCRF(8, 9, labels=3).add_gaussian(2, weight=1)
    assert torch.allclose(q[0], torch.from_numpy(crf.infer(-scores[0].numpy(), 2)), atol=1e-6)


def test_no_diff_and_the_bottoms_dtype():
    scores, size, data = bottoms()
    (q,) = layer(text(KERNELS), *SHAPES)(scores.double().requires_grad_(), size, data)
    assert not q.requires_grad
    assert q.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("pos_w: 1", SHAPES, "0 pos_xy_std, 1 pos_w"),
        ("bi_w: 1 bi_xy_std: 1", SHAPES, "0 bi_rgb_std"),
        ("bi_w: 1 bi_xy_std: 1 bi_rgb_std: 1", SHAPES[:2], "third bottom"),
        (KERNELS, (SHAPES[0], (1, 2), SHAPES[2]), "data_dim of shape"),
        (KERNELS, (*SHAPES[:2], (1, 1, 8, 9)), "data of shape"),
        (KERNELS, ((1, 3), *SHAPES[1:]), "scores of shape"),
    ],
)
def test_what_it_refuses(options, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text(options, len(shapes)), *shapes)


@pytest.mark.parametrize("options", ["pos_w: 1 pos_xy_std: 0", "pos_w: nan pos_xy_std: 1"])
def test_values_it_refuses_name_the_layer(options):
    scores, size, data = bottoms()
    with pytest.raises(LayerError, match="'op'"):
        layer(text(options), *SHAPES)(scores, size, data)
