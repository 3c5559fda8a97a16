"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._labels import same_batch


@register_op
@dataclass(frozen=True)
class EuclideanLoss(Op):
    """Options of EuclideanLoss.

    Attributes:
        norm: 'L2', or 'L2sqrt' of DeepLab v1.

    Source: BVLC/caffe euclidean_loss_layer.cpp; DeepLab v1's euclidean_loss_param.
    """

    type = "EuclideanLoss"
    remark = "Also takes more than 4 axes, which Caffe refuses."
    bottoms = (2, 2)
    auto_top = True

    norm: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> EuclideanLoss:
        return cls(caffe_pb2.EuclideanLossParameter.Type.Name(layer.euclidean_loss_param.type))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        a, b = bottoms
        expect(
            math.prod(a[1:]) == math.prod(b[1:]),
            f"bottom 0 has shape {a}, bottom 1 {b}; expected items of equal size",
        )
        return [()]
