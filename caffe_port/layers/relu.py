"""ReLU, plain and leaky."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.relu import ReLU as Options


@register_layer("ReLU")
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0). Source: BVLC/caffe relu_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        slope = self.spec.options(Options).negative_slope
        (x,) = bottoms
        return (functional.leaky_relu(x, slope) if slope else functional.relu(x),)
