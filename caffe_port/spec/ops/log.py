"""Log: logarithm of shift + scale x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, above_zero, expect, register_op
from caffe_port.spec.ops.exp import read_log_base


@register_op
@dataclass(frozen=True)
class Log(Op):
    """Options of Log. Source: BVLC/caffe log_layer.cpp, LayerSetUp.

    Attributes:
        log_base: natural logarithm of the base; 1 for the default base e.
        scale, shift: of log(shift + scale x).
    """

    type = "Log"
    in_place = True
    option_ranges = {"base": (1.5, 10)}

    log_base: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Log:
        o = layer.log_param
        expect(o.base != 1, "base is 1, which no logarithm has")
        return cls(read_log_base(o.base), o.scale, o.shift)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return above_zero(self.scale, self.shift)
