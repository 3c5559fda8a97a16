"""Convolution, with DeepLab's `hole` under its later name `dilation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import ParamShape, Shape, register_op
from caffe_port.spec.ops._conv import Filtered


@register_op
@dataclass(frozen=True)
class Convolution(Filtered):
    """Options of Convolution. Source: BVLC/caffe base_conv_layer.cpp, conv_layer.cpp."""

    type = "Convolution"
    sums_products = True
    bottoms = (1, None)
    tops = (1, None)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        return self._param_shapes(self.num_output, channels, bottoms[0])

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        each = channels // self.group * math.prod(self.window(bottoms[0]).kernel)
        return sum(math.prod(top) for top in tops) * each
