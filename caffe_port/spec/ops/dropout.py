"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, expect, register_op


@register_op
@dataclass(frozen=True)
class Dropout(Op):
    """Options of Dropout. Source: BVLC/caffe dropout_layer.cpp.

    Attributes:
        ratio: the share of elements set to 0 in training, 0 <= ratio < 1.
    """

    type = "Dropout"
    in_place = True

    ratio: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Dropout:
        ratio = layer.dropout_param.dropout_ratio
        expect(0 <= ratio < 1, f"dropout_ratio is {ratio}; expected 0 or more and less than 1")
        return cls(ratio)
