"""Deconvolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._conv import FilterLayer
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops._conv import Window

_BY_AXES = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, group: int
) -> Tensor:
    """Transpose of the convolution with (C, O / group, ...), 1 to 3 spatial axes."""
    run = _BY_AXES[weight.dim() - 2]
    return run(x, weight, bias, window.stride, window.pad, 0, group, window.dilation)


@register_layer("Deconvolution")
class Deconvolution(FilterLayer):
    """Each bottom spread by the same filters; torch's transposed convolution is Caffe's.

    Source: BVLC/caffe deconv_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return self.apply_filters(*bottoms, function=deconvolve)
