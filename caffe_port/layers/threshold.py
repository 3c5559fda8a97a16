"""Threshold."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.threshold import Threshold as Options


@register_layer("Threshold")
class Threshold(Layer):
    """1 where x exceeds the threshold, else 0; no diff. Source: BVLC/caffe threshold_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        return ((x > op.threshold).to(x.dtype),)
