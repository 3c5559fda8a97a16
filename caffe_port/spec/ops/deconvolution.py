"""Deconvolution: Convolution's transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import ParamShape, Shape, expect, register_op
from caffe_port.spec.ops._conv import Filtered, Window


@register_op
@dataclass(frozen=True)
class Deconvolution(Filtered):
    """Options of Deconvolution. Source: BVLC/caffe base_conv_layer.cpp, deconv_layer.cpp."""

    type = "Deconvolution"
    sums_products = True
    bottoms = (1, None)
    tops = (1, None)

    def top_size(self, window: Window, size: int, i: int) -> int:
        out = window.stride[i] * (size - 1) + window.extent(i) - 2 * window.pad[i]
        expect(
            out > 0,
            f"an axis of {size} would become {out}: pad {window.pad[i]} takes more than there is",
        )
        return out

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        return self._param_shapes(channels, self.num_output, bottoms[0])

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        each = self.num_output // self.group * math.prod(self.window(bottoms[0]).kernel)
        return sum(math.prod(bottom) for bottom in bottoms) * each
