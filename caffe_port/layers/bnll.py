"""BNLL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer


def bnll(x: Tensor) -> Tensor:
    """log(1 + exp(x)) for any x; torch's softplus gives x itself beyond a threshold."""
    return -functional.logsigmoid(-x)


@register_layer("BNLL")
class BNLL(Elementwise):
    """In place, backward takes the top for the bottom. Source: BVLC/caffe bnll_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        top = bnll(x)
        return (self.in_place_top(x, top) if self.in_place else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(x)
