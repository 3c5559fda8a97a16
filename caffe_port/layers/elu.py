"""ELU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._overwritten import with_diff
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops import elu as options


@register_layer("ELU")
class ELU(Layer):
    """x above 0, else alpha (exp(x) - 1). Source: BVLC/caffe elu_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(options.ELU)
        (x,) = bottoms
        top = functional.elu(x, op.alpha)
        if self.in_place and op.alpha < 0:  # backward takes the top's sign for the bottom's
            y = top.detach()
            return (with_diff(x, top, torch.where(y > 0, torch.ones_like(y), op.alpha + y)),)
        return (top,)
