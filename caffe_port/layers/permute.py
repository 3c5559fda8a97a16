"""Permute of SSD."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.permute import Permute as Options


@register_layer("Permute")
class Permute(Layer):
    """Source: weiliu89/caffe permute_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        return (x.permute(op.full_order(x.dim())).contiguous(),)
