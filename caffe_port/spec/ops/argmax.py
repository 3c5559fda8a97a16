"""ArgMax: the k largest values' indices, or the values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class ArgMax(Op):
    """Options of ArgMax. Source: BVLC/caffe argmax_layer.cpp.

    Attributes:
        axis: the axis searched; None is all axes after the first together.
        top_k: how many.
        out_max_val: values instead of indices (with axis), or both (without).
    """

    type = "ArgMax"
    discrete = True
    fixed_bottoms = frozenset({0})

    axis: int | None
    top_k: int
    out_max_val: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ArgMax:
        options = layer.argmax_param
        expect(options.top_k >= 1, f"top_k is {options.top_k}; expected 1 or more")
        axis = options.axis if options.HasField("axis") else None
        return cls(axis, options.top_k, options.out_max_val)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) > 0, "the bottom is a scalar; expected a batch")
        if self.axis is None:
            size = math.prod(shape[1:])
            top = [1] * max(len(shape), 3)
            top[0], top[2] = shape[0], self.top_k
            top[1] = 2 if self.out_max_val else 1
        else:
            axis = axis_index(self.axis, len(shape))
            size = shape[axis]
            top = list(shape)
            top[axis] = self.top_k
        expect(self.top_k <= size, f"top_k is {self.top_k}, more than the {size} values searched")
        return [tuple(top)]
