"""HingeLoss: one against all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, register_op
from caffe_port.spec.ops._labels import class_indices, one_label_each


@register_op
@dataclass(frozen=True)
class HingeLoss(Op):
    """Options of HingeLoss: norm 'L1' or 'L2'. Source: BVLC/caffe hinge_loss_layer.cpp."""

    type = "HingeLoss"
    remark = "One label per item is expected; of more, Caffe reads the first N values."
    chooses = True
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    norm: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> HingeLoss:
        return cls(caffe_pb2.HingeLossParameter.Norm.Name(layer.hinge_loss_param.norm))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one_label_each(*bottoms)
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(math.prod(bottoms[0][1:])) if index else Values()
