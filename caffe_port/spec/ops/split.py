"""Split: one blob for several readers, each with its own diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, register_op


@register_op
@dataclass(frozen=True)
class Split(Op):
    """Options of Split. Source: BVLC/caffe split_layer.cpp."""

    type = "Split"
    tops = (1, None)

    count: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Split:
        return cls(len(layer.top))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * self.count
