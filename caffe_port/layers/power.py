"""Power."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._overwritten import Elementwise, with_diff
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.power import Power as Options


def power(x: Tensor, op: Options) -> Tensor:
    """(shift + scale x) ^ power; where scale or power is 0, a constant with diff 0.

    A negative base gives NaN unless the power is whole. Where the base is 0 and shift is 0 Caffe's
    diff is 0 / 0; ours is the derivative.
    """
    if op.power * op.scale == 0:
        top = torch.full_like(x, op.shift).pow(op.power)
        return with_diff(x, top, torch.zeros_like(x))
    top = x if op.scale == 1 else x * op.scale
    top = top if op.shift == 0 else top + op.shift
    return top if op.power == 1 else top.pow(op.power)


@register_layer("Power")
class Power(Elementwise):
    """In place, Caffe's backward finds the top in the bottom's place and writes over the top's diff
    before it reads it: the diff is the squared derivative, whatever the top's diff is.

    Source: BVLC/caffe power_layer.cpp.
    """

    overwrites_diff = True

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        top = power(x, op)
        return (self.in_place_top(x, top) if self.in_place else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(Options)
        if op.power * op.scale == 0 or op.power == 1:
            return torch.full_like(x, op.power * op.scale)
        base = x * op.scale + op.shift
        return (base if op.power == 2 else y / base) * (op.power * op.scale)
