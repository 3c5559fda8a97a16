"""Slice: a blob cut along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class Slice(Op):
    """Options of Slice. Source: BVLC/caffe slice_layer.cpp.

    Attributes:
        axis: the axis that is cut.
        points: where each top but the first starts; none cuts into equal parts.
        count: number of tops.
    """

    type = "Slice"
    tops = (1, None)

    axis: int
    points: tuple[int, ...]
    count: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Slice:
        options = layer.slice_param
        old = options.HasField("slice_dim")
        expect(not (old and options.HasField("axis")), "axis and slice_dim exclude one another")
        points, count = tuple(options.slice_point), len(layer.top)
        expect(
            len(points) in (0, count - 1),
            f"{len(points)} slice_point for {count} tops; expected {count - 1} or none",
        )
        expect(
            all(a < b for a, b in pairwise((0, *points))),
            f"slice_point {points}; expected them above 0 and rising",
        )
        return cls(options.slice_dim if old else options.axis, points, count)

    def sizes(self, size: int) -> list[int]:
        """Lengths of the parts of an axis."""
        if self.points or self.count == 1:
            expect(
                max(self.points, default=0) <= size,
                f"slice_point {self.points} reach beyond an axis of {size}",
            )
            return [b - a for a, b in pairwise((0, *self.points, size))]
        expect(size % self.count == 0, f"an axis of {size} cannot be cut into {self.count} equal")
        return [size // self.count] * self.count

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        axis = axis_index(self.axis, len(shape))
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes(shape[axis])]
