"""PReLU."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer


@register_layer("PReLU")
class PReLU(Layer):
    """x above 0, else slope * x. Source: BVLC/caffe prelu_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (functional.prelu(x, self.param("weight").reshape(-1)),)
