"""Permute of SSD: puts the axes into another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Permute(Op):
    """Options of Permute. Source: weiliu89/caffe permute_layer.cpp, LayerSetUp.

    Attributes:
        order: axes of the bottom that come first; the others follow in their own order.
    """

    type = "Permute"

    order: tuple[int, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Permute:
        order = tuple(layer.permute_param.order)
        expect(len(set(order)) == len(order), f"order is {order}; expected each axis once")
        return cls(order)

    def full_order(self, dims: int) -> tuple[int, ...]:
        """All axes of the bottom, in the top's order."""
        expect(
            max(self.order, default=0) < max(dims, 1),
            f"order is {self.order} for a bottom with {dims} axes",
        )
        return self.order + tuple(axis for axis in range(dims) if axis not in self.order)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        return [tuple(shape[axis] for axis in self.full_order(len(shape)))]
