"""Silence: reads and does nothing."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("Silence")
class Silence(Layer):
    """Its bottoms get zero diffs. Source: BVLC/caffe silence_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()
