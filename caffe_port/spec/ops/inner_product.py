"""InnerProduct: a fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class InnerProduct(Op):
    """Options of InnerProduct. Source: BVLC/caffe inner_product_layer.cpp.

    Attributes:
        num_output: length of the results.
        axis: the first of the axes that are taken as one vector.
        transpose: whether the weight is stored (in, out) instead of (out, in).
        bias: whether a bias is added.
    """

    type = "InnerProduct"
    sums_products = True

    num_output: int
    axis: int
    transpose: bool
    bias: bool
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> InnerProduct:
        o = layer.inner_product_param
        expect(o.num_output > 0, "num_output is missing or 0")
        return cls(o.num_output, o.axis, o.transpose, o.bias_term, o.weight_filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0][: axis_index(self.axis, len(bottoms[0]))], self.num_output)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        length = math.prod(bottoms[0][axis_index(self.axis, len(bottoms[0])) :])
        shape = (length, self.num_output) if self.transpose else (self.num_output, length)
        weight = ParamShape("weight", shape, self.weight_filler)
        bias = ParamShape("bias", (self.num_output,), self.bias_filler)
        return [weight, bias] if self.bias else [weight]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) * self.num_output
