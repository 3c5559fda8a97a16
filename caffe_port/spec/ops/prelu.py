"""PReLU: ReLU with learned slopes for negative values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class PReLU(Op):
    """Options of PReLU. Source: BVLC/caffe prelu_layer.cpp, LayerSetUp.

    Attributes:
        channel_shared: whether one slope serves all channels.
        filler: the slopes' start, 0.25 unless given.
    """

    type = "PReLU"
    in_place = True
    kink_at_zero = True

    channel_shared: bool
    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> PReLU:
        o = layer.prelu_param
        quarter = caffe_pb2.FillerParameter(type="constant", value=0.25)
        return cls(o.channel_shared, o.filler if o.HasField("filler") else quarter)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = () if self.channel_shared else bottoms[0][1:2]
        return [ParamShape("weight", shape, self.filler)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]
