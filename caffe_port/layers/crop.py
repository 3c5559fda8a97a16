"""Crop."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.crop import Crop as Options


@register_layer("Crop")
class Crop(Layer):
    """Source: BVLC/caffe crop_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        x, reference = bottoms
        kept = op.ranges(tuple(x.shape), tuple(reference.shape))
        return (x[tuple(slice(start, start + size) for start, size in kept)],)
