"""Convolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._conv import FilterLayer, cover
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops._conv import Window

_BY_AXES = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, group: int) -> Tensor:
    """Correlation of (N, C, ...) with (O, C / group, ...), 1 to 3 spatial axes."""
    run = _BY_AXES[weight.dim() - 2]
    return run(cover(x, window), weight, bias, window.stride, window.pad, window.dilation, group)


@register_layer("Convolution")
class Convolution(FilterLayer):
    """Each bottom correlated with the same filters.

    Source: BVLC/caffe conv_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return self.apply_filters(*bottoms, function=convolve)
