"""BNLL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._overwritten import with_diff
from caffe_port.layers._registry import Layer, register_layer


def bnll(x: Tensor) -> Tensor:
    """log(1 + exp(x)) for any x; torch's softplus gives x itself beyond a threshold."""
    return -functional.logsigmoid(-x)


@register_layer("BNLL")
class BNLL(Layer):
    """In place, backward takes the top for the bottom. Source: BVLC/caffe bnll_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        top = bnll(x)
        return (with_diff(x, top, torch.sigmoid(top.detach())) if self.in_place else top,)
