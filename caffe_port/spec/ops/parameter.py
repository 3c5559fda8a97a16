"""Parameter: a blob that is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Parameter(Op):
    """Options of Parameter: its shape; it starts as zeros.

    Source: BVLC/caffe parameter_layer.hpp.
    """

    type = "Parameter"
    bottoms = (0, 0)

    shape: Shape

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Parameter:
        shape = tuple(int(d) for d in layer.parameter_param.shape.dim)
        expect(min(shape, default=0) >= 0, f"shape {shape} has a negative axis")
        return cls(shape)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self.shape]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        return [ParamShape("weight", self.shape)]
