"""Concat along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class Concat(Op):
    """Options of Concat. Source: BVLC/caffe concat_layer.cpp."""

    type = "Concat"
    bottoms = (1, None)

    axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Concat:
        options = layer.concat_param
        old = options.HasField("concat_dim")
        expect(not (old and options.HasField("axis")), "axis and concat_dim exclude one another")
        return cls(options.concat_dim if old else options.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        first = bottoms[0]
        axis = axis_index(self.axis, len(first))
        for i, shape in enumerate(bottoms):
            expect(
                len(shape) == len(first)
                and shape[:axis] + shape[axis + 1 :] == first[:axis] + first[axis + 1 :],
                f"bottom {i} has shape {shape}, bottom 0 {first}; expected them equal but for "
                f"axis {axis}",
            )
        total = sum(shape[axis] for shape in bottoms)
        return [(*first[:axis], total, *first[axis + 1 :])]
