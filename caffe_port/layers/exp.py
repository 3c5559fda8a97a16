"""Exp."""

from __future__ import annotations

import math

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.exp import Exp as Options


@register_layer("Exp")
class Exp(Layer):
    """base ^ shift * exp(log(base) scale x). Source: BVLC/caffe exp_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        inner = op.log_base * op.scale
        top = (x if inner == 1 else x * inner).exp()
        return (top if op.shift == 0 else top * math.exp(op.log_base * op.shift),)
