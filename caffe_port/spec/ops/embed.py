"""Embed: looks rows of a table up by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class Embed(Op):
    """Options of Embed. Source: BVLC/caffe embed_layer.cpp.

    Attributes:
        num_output: length of a row.
        input_dim: rows of the table.
        bias: whether a bias is added.
    """

    type = "Embed"
    fixed_bottoms = frozenset({0})

    num_output: int
    input_dim: int
    bias: bool
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Embed:
        o = layer.embed_param
        expect(o.num_output > 0, "num_output is missing or 0")
        expect(o.input_dim > 0, "input_dim is missing or 0")
        return cls(o.num_output, o.input_dim, o.bias_term, o.weight_filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.num_output)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        weight = ParamShape("weight", (self.input_dim, self.num_output), self.weight_filler)
        bias = ParamShape("bias", (self.num_output,), self.bias_filler)
        return [weight, bias] if self.bias else [weight]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, self.input_dim - 1, whole=True)
