"""Power: (shift + scale x) ^ power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, above_zero, register_op


@register_op
@dataclass(frozen=True)
class Power(Op):
    """Options of Power. Source: BVLC/caffe power_layer.cpp.

    Attributes:
        power, scale, shift: of (shift + scale x) ^ power.
    """

    type = "Power"
    in_place = True
    option_ranges = {"power": (-2, 3)}

    power: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Power:
        o = layer.power_param
        return cls(o.power, o.scale, o.shift)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values() if self.power in (0, 1, 2, 3) else above_zero(self.scale, self.shift)
