"""BN of SegNet and ENet: batch normalization with scale and shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class BN(Op):
    """Options of BN. Source: alexgkendall/caffe-segnet bn_layer.cpp.

    Attributes:
        learn: whether the batch's statistics normalize first, in either phase; False (INFERENCE)
            only scales and shifts, with the statistics folded into both beforehand.
    """

    type = "BN"
    tops = (1, 3)

    learn: bool
    scale_filler: caffe_pb2.FillerParameter
    shift_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BN:
        o = layer.bn_param
        learn = o.bn_mode == caffe_pb2.BNParameter.LEARN
        expect(learn or len(layer.top) == 1, "tops for mean and variance; INFERENCE computes none")
        return cls(learn, o.scale_filler, o.shift_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        return [shape, (1, shape[1], 1, 1), (1, shape[1], 1, 1)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = (1, bottoms[0][1], 1, 1)
        return [
            ParamShape("scale", shape, self.scale_filler),
            ParamShape("shift", shape, self.shift_filler),
        ]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) // max(bottoms[0][1], 1)
