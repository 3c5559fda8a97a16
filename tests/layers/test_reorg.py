"""Reorg, by a loop over the indices that darknet and the forks compute, and by hand."""

import itertools

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer


def reorg(shape, options):
    return layer(f'type: "Reorg" bottom: "b0" top: "y" reorg_param {{ {options} }}', shape)


def moved(x, stride, reverse):
    """The flat top, index by index: pjreddie/darknet blas.c, reorg_cpu."""
    n, c, h, w = x.shape
    fewer, values, top = c // stride**2, x.flatten(), torch.empty(x.numel())
    for b, k, j, i in itertools.product(range(n), range(c), range(h), range(w)):
        small = ((b * c + k) * h + j) * w + i
        row, column = j * stride + k // fewer // stride, i * stride + k // fewer % stride
        large = ((b * fewer + k % fewer) * h * stride + row) * w * stride + column
        if reverse:
            top[large] = values[small]
        else:
            top[small] = values[large]
    return top


@pytest.mark.parametrize(
    ("stride", "shape"),
    [(2, (2, 8, 4, 6)), (3, (1, 9, 3, 6)), (1, (2, 3, 3, 5)), (2, (1, 12, 2, 2))],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_order_of_darknet(stride, shape, reverse):
    n, c, h, w = shape
    wanted = (n, c // stride**2, h * stride, w * stride) if reverse else (
        (n, c * stride**2, h // stride, w // stride)
    )  # fmt: skip
    module = reorg(shape, f"stride: {stride} reverse: {str(reverse).lower()}")
    x = torch.arange(float(n * c * h * w)).reshape(shape)
    (y,) = module(x)
    assert y.shape == wanted
    assert torch.equal(y.flatten(), moved(x, stride, reverse))
    check_gradients(module, x)


def test_by_hand():
    """4 x 2 x 2 is read as 1 x 4 x 4, or written as it: value 4 k + 2 j + i at (j, i)."""
    x = torch.arange(1.0, 17).reshape(1, 4, 2, 2)
    (y,) = reorg(x.shape, "stride: 2")(x)
    assert y.flatten().tolist() == [1, 3, 9, 11, 2, 4, 10, 12, 5, 7, 13, 15, 6, 8, 14, 16]
    (y,) = reorg(x.shape, "stride: 2 reverse: true")(x)
    assert y.flatten().tolist() == [1, 5, 2, 6, 9, 13, 10, 14, 3, 7, 4, 8, 11, 15, 12, 16]


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (1, 4, 2, 2), "no reorg_param { stride"),
        ("stride: 0", (1, 4, 2, 2), "stride is 0"),
        ("stride: 2", (1, 6, 2, 2), "6 channels; expected a multiple of 4"),
        ("stride: 2", (1, 4, 3, 2), "3 x 2 pixels; expected multiples of stride 2"),
        ("stride: 2 reverse: true", (1, 6, 3, 2), "6 channels"),
        ("stride: 2", (4, 4), "expected 4 axes"),
        ("stride: 2 up_down: UP", (1, 4, 2, 2), "up_down: another order"),
        ("stride: 2 flatten: true", (1, 4, 2, 2), "flatten: another order"),
    ],
)
def test_what_is_refused(options, shape, message):
    with pytest.raises(LayerError, match=message):
        reorg(shape, options)
