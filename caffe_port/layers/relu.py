"""ReLU, plain and leaky."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.relu import ReLU as Options


@register_layer("ReLU")
class ReLU(Elementwise):
    """max(x, 0) + negative_slope * min(x, 0).

    In place, backward takes the top's sign for the bottom's; a slope below 0 has turned it.

    Source: BVLC/caffe relu_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        slope = self.spec.options(Options).negative_slope
        (x,) = bottoms
        top = functional.leaky_relu(x, slope) if slope else functional.relu(x)
        return (self.in_place_top(x, top) if self.in_place and slope < 0 else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, self.spec.options(Options).negative_slope).to(x.dtype)
