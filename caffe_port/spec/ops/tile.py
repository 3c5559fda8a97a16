"""Tile: a blob repeated along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class Tile(Op):
    """Options of Tile. Source: BVLC/caffe tile_layer.cpp."""

    type = "Tile"

    axis: int
    tiles: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Tile:
        options = layer.tile_param
        expect(options.tiles > 0, f"tiles is {options.tiles} or missing; expected 1 or more")
        return cls(options.axis, options.tiles)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = list(bottoms[0])
        shape[axis_index(self.axis, len(shape))] *= self.tiles
        return [tuple(shape)]
