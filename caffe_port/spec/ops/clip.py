"""Clip: values limited to a range."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, expect, register_op


@register_op
@dataclass(frozen=True)
class Clip(Op):
    """Options of Clip. Source: BVLC/caffe clip_layer.cpp.

    Attributes:
        low, high: the range, both ends included; where low is above high, low wins.
    """

    type = "Clip"
    in_place = True
    chooses = True

    low: float
    high: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Clip:
        o = layer.clip_param
        expect(o.HasField("min") and o.HasField("max"), "clip_param needs both min and max")
        return cls(o.min, o.max)
