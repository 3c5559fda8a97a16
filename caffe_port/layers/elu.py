"""ELU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops import elu as options


@register_layer("ELU")
class ELU(Elementwise):
    """x above 0, else alpha (exp(x) - 1). Source: BVLC/caffe elu_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(options.ELU)
        (x,) = bottoms
        top = functional.elu(x, op.alpha)
        # backward takes the top's sign for the bottom's
        return (self.in_place_top(x, top) if self.in_place and op.alpha < 0 else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, torch.ones_like(y), self.spec.options(options.ELU).alpha + y)
