"""Normalize of SSD: divides by the L2 norm and scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Normalize(Op):
    """Options of Normalize. Source: weiliu89/caffe normalize_layer.cpp, LayerSetUp.

    Attributes:
        across_spatial: whether the norm is an item's; else each pixel has its own.
        channel_shared: whether one scale serves all channels.
        eps: added to the sum of squares.
        filler: the scale's start, 1 unless given.
    """

    type = "Normalize"
    option_ranges = {"eps": (1e-10, 0.1)}

    across_spatial: bool
    channel_shared: bool
    eps: float
    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Normalize:
        o = layer.norm_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = o.scale_filler if o.HasField("scale_filler") else one
        return cls(o.across_spatial, o.channel_shared, o.eps, filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(2 <= len(bottoms[0]) <= 4, f"a bottom of shape {bottoms[0]}; expected 2 to 4 axes")
        return [bottoms[0]]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = () if self.channel_shared else bottoms[0][1:2]
        return [ParamShape("weight", shape, self.filler)]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][1:]) if self.across_spatial else bottoms[0][1]
