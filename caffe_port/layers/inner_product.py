"""InnerProduct."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.inner_product import InnerProduct as Options


@register_layer("InnerProduct")
class InnerProduct(Layer):
    """Source: BVLC/caffe inner_product_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        rows = x.reshape(math.prod(shape[:-1]), math.prod(x.shape[len(shape) - 1 :]))
        weight = self.param("weight")
        top = functional.linear(rows, weight.t() if op.transpose else weight, self.blob(1))
        return (top.reshape(shape),)
