"""Exp: base ^ (shift + scale x)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, expect, register_op


@register_op
@dataclass(frozen=True)
class Exp(Op):
    """Options of Exp. Source: BVLC/caffe exp_layer.cpp, LayerSetUp.

    Attributes:
        inner: of outer * exp(inner * x); log(base) * scale.
        outer: base ^ shift; infinite where that is beyond all numbers.
    """

    type = "Exp"
    in_place = True
    option_ranges = {"base": (0.2, 3), "scale": (-1, 1), "shift": (-1, 1)}

    inner: float
    outer: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Exp:
        o = layer.exp_param
        log_base = read_log_base(o.base)
        try:
            outer = math.exp(log_base * o.shift)
        except OverflowError:
            outer = math.inf
        return cls(log_base * o.scale, outer)


def read_log_base(base: float) -> float:
    """Logarithm of a base, where -1 stands for e."""
    expect(base == -1 or 0 < base < math.inf, f"base is {base}; expected a number above 0, or -1")
    return 1.0 if base == -1 else math.log(base)
