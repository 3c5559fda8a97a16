"""SPP: bins against a loop, single levels, sizes that do not fit."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "SPP" bottom: "b0" top: "y" spp_param {{ pyramid_height: {} pool: {} }}'


def bins(plane, count, reduce):
    """One level by hand: windows of equal size, shifted so that the overhang is on both sides."""
    height, width = plane.shape
    kernel = [math.ceil(s / count) for s in (height, width)]
    pad = [(k * count - s + 1) // 2 for k, s in zip(kernel, (height, width), strict=True)]
    out = []
    for i in range(count):
        for j in range(count):
            top, left = i * kernel[0] - pad[0], j * kernel[1] - pad[1]
            part = plane[max(top, 0) : top + kernel[0], max(left, 0) : left + kernel[1]]
            area = (min(top + kernel[0], height + pad[0]) - top) * (
                min(left + kernel[1], width + pad[1]) - left
            )
            out.append(part.max() if reduce == "MAX" else part.sum() / area)
    return torch.stack(out)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [(9, 13), (8, 8), (7, 10)])
def test_levels_against_a_loop(pool, size):
    x = torch.rand(2, 3, *size)
    (y,) = layer(TEXT.format(3, pool), x.shape)(x)
    rows = [
        torch.cat([bins(plane, 2**level, pool) for level in range(3) for plane in item])
        for item in x
    ]
    assert torch.allclose(y, torch.stack(rows))


def test_one_level_is_not_flattened():
    x = torch.rand(2, 3, 5, 4)
    (y,) = layer(TEXT.format(1, "AVE"), x.shape)(x)
    assert y.shape == (2, 3, 1, 1)
    assert torch.allclose(y, x.mean((2, 3), keepdim=True))


def test_bins_follow_the_bottom_given():
    module = layer(TEXT.format(2, "MAX"), (1, 3, 4, 4))
    assert module(torch.rand(1, 3, 9, 6))[0].shape == (1, 15)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_gradients(pool):
    x = torch.randperm(35).reshape(1, 1, 5, 7) / 10
    check_gradients(layer(TEXT.format(2, pool), x.shape), x)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (TEXT.format(3, "MAX"), (1, 1, 3, 8), "4 x 4 bins do not fit"),
        (TEXT.format(4000000000, "MAX"), (1, 1, 8, 8), "bins do not fit"),
        (TEXT.format(0, "MAX"), (1, 1, 8, 8), "pyramid_height is 0"),
        (TEXT.format(2, "STOCHASTIC"), (1, 1, 8, 8), "STOCHASTIC"),
        (TEXT.format(2, "MAX"), (1, 8), "expected \\(N, C, H, W\\)"),
    ],
)
def test_what_it_refuses(text, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(text, shape)
