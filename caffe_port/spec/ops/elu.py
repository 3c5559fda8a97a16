"""ELU: exponential linear unit."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class ELU(Op):
    """Options of ELU. Source: BVLC/caffe elu_layer.cpp.

    Attributes:
        alpha: minus the limit for large negative values.
    """

    type = "ELU"
    in_place = True
    kink_at_zero = True

    alpha: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ELU:
        return cls(layer.elu_param.alpha)
