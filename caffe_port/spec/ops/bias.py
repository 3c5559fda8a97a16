"""Bias: adds a learned blob or a second bottom along some axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._affine import Overlaid
from caffe_port.spec.ops._base import ParamShape, Shape, register_op


@register_op
@dataclass(frozen=True)
class Bias(Overlaid):
    """Options of Bias. Source: BVLC/caffe bias_layer.cpp."""

    type = "Bias"
    in_place = True

    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Bias:
        o = layer.bias_param
        return cls(o.axis, o.num_axes, o.filler)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        if len(bottoms) > 1:
            return []
        return [ParamShape("bias", self.covered(bottoms[0]), self.filler)]
