"""Im2col: every window's values laid out along the channel axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Shape, expect, register_op
from caffe_port.spec.ops._conv import Windowed, read_window


@register_op
@dataclass(frozen=True)
class Im2col(Windowed):
    """Options of Im2col, which are those of a convolution. Source: BVLC/caffe im2col_layer.cpp."""

    type = "Im2col"

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Im2col:
        return cls(*read_window(layer.convolution_param), layer.convolution_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, axis = bottoms[0], self.channel_axis(bottoms[0])
        window = self.window(shape)
        expect(len(shape) > axis + 1, f"a bottom of shape {shape} has no axis after axis {axis}")
        sizes = [window.count(size, i) for i, size in enumerate(shape[axis + 1 :])]
        return [(*shape[:axis], shape[axis] * math.prod(window.kernel), *sizes)]
