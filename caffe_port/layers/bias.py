"""Bias."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.bias import Bias as Options


@register_layer("Bias")
class Bias(Layer):
    """Source: BVLC/caffe bias_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        x = bottoms[0]
        bias = bottoms[1] if len(bottoms) > 1 else self.param("bias")
        return (x + bias.reshape(op.spread(tuple(x.shape), tuple(bias.shape))),)
