"""Swish: x / (1 + exp(-beta x))."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class Swish(Op):
    """Options of Swish. Source: BVLC/caffe swish_layer.cpp.

    Attributes:
        beta: the sigmoid's steepness.
    """

    type = "Swish"
    in_place = True

    beta: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Swish:
        return cls(layer.swish_param.beta)
