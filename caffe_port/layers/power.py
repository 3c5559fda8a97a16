"""Power."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._overwritten import with_diff
from caffe_port.layers._registry import Layer, register_layer
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


def _derivative_in_place(top: Tensor, op: Options) -> Tensor:
    """Caffe's derivative, computed from the top where the bottom was."""
    if op.power * op.scale == 0 or op.power == 1:
        return torch.full_like(top, op.power * op.scale)
    base = top * op.scale + op.shift
    if op.power == 2:
        return base * (op.power * op.scale)
    return top / base * (op.power * op.scale)


@register_layer("Power")
class Power(Layer):
    """In place, Caffe's backward finds the top in the bottom's place and writes over the top's diff
    before it reads it: the diff is the squared derivative, whatever the top's diff is.

    Source: BVLC/caffe power_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        top = power(x, op)
        if not self.in_place:
            return (top,)
        factor = _derivative_in_place(top.detach(), op)
        return (with_diff(x, top, factor * factor, chained=False),)
