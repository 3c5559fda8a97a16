"""Tile: a blob repeated along one axis."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.tile import Tile as Options


@register_layer("Tile")
class Tile(Layer):
    """Copies side by side. Source: BVLC/caffe tile_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        times = [1] * x.dim()
        times[op.axis] = op.tiles
        return (x.repeat(times),)
