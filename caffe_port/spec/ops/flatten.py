"""Flatten: several axes made one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class Flatten(Op):
    """Options of Flatten: first and last axis. Source: BVLC/caffe flatten_layer.cpp."""

    type = "Flatten"

    axis: int
    end_axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Flatten:
        expect(layer.bottom[0] != layer.top[0], "Flatten cannot work in place; rename its top")
        return cls(layer.flatten_param.axis, layer.flatten_param.end_axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start = axis_index(self.axis, len(shape))
        end = axis_index(self.end_axis, len(shape))
        # one before the start is legal: nothing is joined and an axis of size 1 comes in
        expect(end >= start - 1, f"end_axis {self.end_axis} lies before axis {self.axis}")
        return [(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])]
