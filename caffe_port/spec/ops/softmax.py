"""Softmax over one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, register_op


@register_op
@dataclass(frozen=True)
class Softmax(Op):
    """Options of Softmax. Source: BVLC/caffe softmax_layer.cpp."""

    type = "Softmax"
    in_place = True

    axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Softmax:
        return cls(layer.softmax_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis_index(self.axis, len(bottoms[0]))
        return [bottoms[0]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[0][self.axis]
