"""Swish."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.swish import Swish as Options


@register_layer("Swish")
class Swish(Layer):
    """x sigmoid(beta x). Source: BVLC/caffe swish_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        return (x * (x * op.beta).sigmoid(),)
