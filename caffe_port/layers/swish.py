"""Swish."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.swish import Swish as Options


@register_layer("Swish")
class Swish(Elementwise):
    """x sigmoid(beta x). Source: BVLC/caffe swish_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        return (x * (x * op.beta).sigmoid(),)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        beta = self.spec.options(Options).beta
        sigmoid = (x * beta).sigmoid()
        return beta * y + sigmoid * (1 - beta * y)
