"""Power: (shift + scale x) ^ power."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class Power(Op):
    """Options of Power. Source: BVLC/caffe power_layer.cpp.

    Attributes:
        power, scale, shift: of (shift + scale x) ^ power.
    """

    type = "Power"

    power: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Power:
        o = layer.power_param
        return cls(o.power, o.scale, o.shift)
