"""Reshape: the same values under other axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Reshape(Op):
    """Options of Reshape. Source: BVLC/caffe reshape_layer.cpp.

    Attributes:
        dims: the new axes; 0 copies the bottom's axis at the same place, -1 is what is left.
        axis: the first axis replaced; -1 appends behind the last.
        num_axes: how many axes are replaced; -1 is all from ``axis`` on.
    """

    type = "Reshape"

    dims: tuple[int, ...]
    axis: int
    num_axes: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Reshape:
        expect(layer.bottom[0] != layer.top[0], "Reshape cannot work in place; rename its top")
        options = layer.reshape_param
        dims = tuple(int(d) for d in options.shape.dim)
        expect(dims.count(-1) <= 1, f"shape {dims} has several -1; expected at most one")
        expect(min(dims, default=0) >= -1, f"shape {dims}; expected -1, 0 or sizes")
        expect(options.num_axes >= -1, f"num_axes is {options.num_axes}; expected -1 (all) or more")
        return cls(dims, options.axis, options.num_axes)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start = self.axis if self.axis >= 0 else len(shape) + self.axis + 1
        expect(
            0 <= start <= len(shape), f"axis {self.axis} is outside of a blob of {len(shape)} axes"
        )
        end = len(shape) if self.num_axes == -1 else start + self.num_axes
        expect(
            end <= len(shape),
            f"axis {self.axis} and num_axes {self.num_axes} reach beyond the {len(shape)} axes",
        )
        new = []
        for i, dim in enumerate(self.dims):
            expect(
                dim != 0 or start + i < len(shape),
                f"shape {self.dims} has a 0 at {i}, but the bottom {shape} no axis {start + i}",
            )
            new.append(shape[start + i] if dim == 0 else dim)
        count, head, tail = math.prod(shape), shape[:start], shape[end:]
        if -1 in new:
            rest = math.prod(head) * math.prod(tail) * math.prod(d for d in new if d != -1)
            expect(
                rest > 0 and count % rest == 0,
                f"{count} values of bottom {shape} cannot be divided into {(*head, *new, *tail)}",
            )
            new[new.index(-1)] = count // rest
        top = (*head, *new, *tail)
        expect(math.prod(top) == count, f"shape {top} for the {count} values of a bottom {shape}")
        return [top]
