"""Scale: multiplies by a learned blob or a second bottom along some axes, and may add a bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._affine import Overlaid
from caffe_port.spec.ops._base import ParamShape, Shape, axis_index, register_op


@register_op
@dataclass(frozen=True)
class Scale(Overlaid):
    """Options of Scale. Source: BVLC/caffe scale_layer.cpp.

    Attributes:
        bias: whether a learned bias of the scale's shape is added.
        filler: the scale's start, 1 unless given.
    """

    type = "Scale"
    in_place = True

    bias: bool
    filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Scale:
        o = layer.scale_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = o.filler if o.HasField("filler") else one
        return cls(o.axis, o.num_axes, o.bias_term, filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.bias:  # Caffe's inner Bias layer wants the axis, also where a scalar scales
            axis_index(self.axis, len(bottoms[0]))
        return super().top_shapes(bottoms)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        given = len(bottoms) > 1
        shape = bottoms[1] if given else self.covered(bottoms[0])
        bias = [ParamShape("bias", shape, self.bias_filler)] if self.bias else []
        return bias if given else [ParamShape("weight", shape, self.filler), *bias]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0])
