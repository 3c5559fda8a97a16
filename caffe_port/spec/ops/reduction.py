"""Reduction: all axes from one on become one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, register_op


@register_op
@dataclass(frozen=True)
class Reduction(Op):
    """Options of Reduction. Source: BVLC/caffe reduction_layer.cpp.

    Attributes:
        operation: 'SUM', 'ASUM' (of absolute values), 'SUMSQ' (of squares) or 'MEAN'.
        axis: the first axis that goes.
        coeff: a factor on the result.
    """

    type = "Reduction"

    operation: str
    axis: int
    coeff: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Reduction:
        options = layer.reduction_param
        name = caffe_pb2.ReductionParameter.ReductionOp.Name(options.operation)
        return cls(name, options.axis, options.coeff)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: axis_index(self.axis, len(bottoms[0]))]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][axis_index(self.axis, len(bottoms[0])) :])
