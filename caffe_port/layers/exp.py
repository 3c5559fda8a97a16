"""Exp."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.exp import Exp as Options


@register_layer("Exp")
class Exp(Elementwise):
    """base ^ shift * exp(log(base) scale x). Source: BVLC/caffe exp_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        top = (x if op.inner == 1 else x * op.inner).exp()
        return (top if op.outer == 1 else top * op.outer,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.spec.options(Options).inner
