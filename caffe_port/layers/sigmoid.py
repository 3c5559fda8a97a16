"""Sigmoid."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer


@register_layer("Sigmoid")
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x)). Source: BVLC/caffe sigmoid_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.sigmoid(),)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return y * (1 - y)
