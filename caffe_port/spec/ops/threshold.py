"""Threshold: 1 above a value, else 0."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class Threshold(Op):
    """Options of Threshold. Source: BVLC/caffe threshold_layer.cpp.

    Attributes:
        threshold: what a value must exceed.
    """

    type = "Threshold"
    in_place = True
    discrete = True
    fixed_bottoms = frozenset({0})

    threshold: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Threshold:
        return cls(layer.threshold_param.threshold)
