"""Normalize of SSD."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.normalize import Normalize as Options


@register_layer("Normalize")
class Normalize(Layer):
    """scale * x / sqrt(eps + sum of squares); torch's normalize limits the norm instead.

    Source: weiliu89/caffe normalize_layer.cpp; Liu et al., ParseNet, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        axes = tuple(range(1, x.dim())) if op.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + op.eps).sqrt()
        scale = self.param("weight")
        if not op.channel_shared:
            scale = scale.reshape(-1, *[1] * (x.dim() - 2))
        return (x / norm * scale,)
