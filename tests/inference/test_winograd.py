"""Winograd's convolution compared with torch's, and as close to the exact sum."""

import pytest
import torch
from torch.nn import functional

from caffe_port.inference.winograd import Winograd, transform_filters


def _problem(images, channels, tops, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, channels, height, width, generator=generator, dtype=torch.float64)
    w = torch.randn(tops, channels, 3, 3, generator=generator, dtype=torch.float64)
    return x, w, torch.randn(tops, generator=generator, dtype=torch.float64)


def _direct(x, w, bias, dilation, slope):
    top = functional.conv2d(x, w, bias, 1, dilation, dilation)
    return top if slope is None else functional.leaky_relu(top, slope)


@pytest.mark.parametrize("slope", [None, 0.0, 0.1])
@pytest.mark.parametrize(
    ("images", "height", "width", "dilation"),
    [(1, 9, 12, 1), (2, 10, 7, 1), (2, 11, 14, 2), (1, 13, 16, 4), (1, 5, 8, 12), (3, 1, 1, 1),
     (1, 40, 31, 1), (9, 8, 8, 2)],
)  # fmt: skip
def test_equals_a_direct_convolution(images, height, width, dilation, slope):
    x, w, bias = _problem(images, 5, 6, height, width)
    found = Winograd(transform_filters(w), bias, dilation, slope)(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - _direct(x, w, bias, dilation, slope)).abs().max() < 1e-12


def test_without_bias():
    x, w, _ = _problem(1, 3, 4, 6, 6)
    found = Winograd(transform_filters(w), None, 1, None)(x)
    assert (found - _direct(x, w, None, 1, None)).abs().max() < 1e-12


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_rounds_as_well_as_the_direct_sum(channels):
    """Its errors are no larger than those of Caffe's own arithmetic, a product of matrices."""
    x, w, bias = _problem(1, channels, 32, 14, 14)
    filters = transform_filters(w.float().double()).float()
    exact = _direct(x.float().double(), w.float().double(), bias.float().double(), 1, 0.0)
    found = Winograd(filters, bias.float(), 1, 0.0)(x.float())
    columns = functional.unfold(x.float(), 3, padding=1)[0]
    product = (w.float().flatten(1) @ columns + bias.float()[:, None]).relu().view(exact.shape)
    error, plain = ((y - exact).abs().max() for y in (found, product))
    assert error <= 3 * plain
