"""Unpooling and Padding, by loops after HyeonwooNoh/caffe unpooling_layer.cpp and DeepLab v1."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Unpooling" {} top: "y" unpooling_param {{ {} }}'
ONE, TWO = 'bottom: "b0"', 'bottom: "b0" bottom: "b1"'
SHAPE = (2, 3, 3, 4)


def draw(shape=SHAPE, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loops(x, method, kernel, stride, size):
    """Forward_cpu without a mask, from a top of zeros."""
    top = np.zeros((*x.shape[:2], *size))
    for n, c, i, j in np.ndindex(*x.shape):
        top_y, top_x = i * stride[0], j * stride[1]
        if method == "MAX":
            top[n, c, min(top_y, size[0] - 1), min(top_x, size[1] - 1)] = x[n, c, i, j]
            continue
        end_y, end_x = min(top_y + kernel[0], size[0]), min(top_x + kernel[1], size[1])
        area = (end_y - top_y) * (end_x - top_x) if method == "AVE" else 1
        if end_y > top_y and end_x > top_x:
            top[n, c, top_y:end_y, top_x:end_x] += x[n, c, i, j] / area
    return top


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [((2, 2), (2, 2), (6, 8)), ((3, 2), (2, 1), (6, 7)), ((2, 3), (3, 2), (5, 6)),
     ((1, 2), (2, 3), (9, 15))],
)  # fmt: skip
def test_without_a_mask(method, kernel, stride, size):
    options = (
        f"unpool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} "
        f"stride_w: {stride[1]} unpool_h: {size[0]} unpool_w: {size[1]}"
    )
    module = layer(TEXT.format(ONE, options), SHAPE)
    x = draw()
    np.testing.assert_allclose(
        module(x)[0].numpy(), loops(x.numpy(), method, kernel, stride, size), rtol=1e-6, atol=1e-6
    )
    check_gradients(module, x)


def test_values_go_where_the_mask_says_and_its_diff_comes_from_there():
    module = layer(TEXT.format(TWO, "kernel_size: 2 stride: 2 unpool_size: 2"), (1, 1, 1, 3),
                   (1, 1, 1, 3))  # fmt: skip
    x = torch.tensor([[[[5.0, 6.0, 7.0]]]], requires_grad=True)
    (y,) = module(x, torch.tensor([[[[1.0, 3.0, 1.0]]]]))
    assert y.tolist() == [[[[0, 7], [0, 6]]]]
    y.backward(torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]]))
    assert x.grad.tolist() == [[[[20, 40, 20]]]]
    with pytest.raises(LayerError, match="index 4, the top 2 x 2"):
        module(torch.ones(1, 1, 1, 3), torch.full((1, 1, 1, 3), 4.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("kernel_size: 2", "either unpool_size or both unpool_h and unpool_w"),
        ("unpool_size: 4", "either kernel_size or both"),
        ("kernel_size: 2 unpool_size: 4 pad: 1", "padding; expected 0"),
        ("kernel_size: 2 unpool_size: 4 stride: 1 stride_h: 2 stride_w: 1", "either stride or"),
        ("kernel_size: 2 unpool_h: 4", "either unpool_size or both"),
        ("kernel_size: 0 unpool_size: 4", "expected 1 or more"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(ONE, options), SHAPE)


PADDING = 'type: "Padding" bottom: "b0" top: "y" padding_param {{ {} }}'


def test_padding_adds_zeros_or_cuts():
    x = draw()
    (y,) = layer(PADDING.format("pad_beg: 1 pad_end: 2"), SHAPE)(x)
    assert np.array_equal(y.numpy(), np.pad(x.numpy(), [(0, 0)] * 2 + [(1, 2)] * 2))
    cut = layer(PADDING.format("pad_beg: -1"), SHAPE)
    assert torch.equal(cut(x)[0], x[:, :, 1:, 1:])
    check_gradients(cut, x)


@pytest.mark.parametrize(
    ("options", "message"),
    [("pad_beg: 1 pad_end: -1", "both to add or both to cut"), ("pad_beg: -3", "cutting leaves")],
)
def test_wrong_padding_is_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(PADDING.format(options), SHAPE)


def test_upsample_without_a_mask_repeats():
    module = layer('type: "Upsample" bottom: "b0" top: "y" upsample_param { scale: 2 }', SHAPE)
    x = draw()
    assert torch.equal(module(x)[0], x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    check_gradients(module, x)
    sized = "upsample_param { upsample_h: 6 upsample_w: 8 }"
    with pytest.raises(LayerError, match="go with a mask"):
        layer(f'type: "Upsample" bottom: "b0" top: "y" {sized}', SHAPE)
