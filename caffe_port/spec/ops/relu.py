"""ReLU, plain and leaky."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class ReLU(Op):
    """Options of ReLU. Source: BVLC/caffe relu_layer.cpp."""

    type = "ReLU"
    in_place = True
    kink_at_zero = True

    negative_slope: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ReLU:
        return cls(layer.relu_param.negative_slope)
