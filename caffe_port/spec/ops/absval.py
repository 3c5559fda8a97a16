"""AbsVal: the absolute value."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, expect, register_op


@register_op
@dataclass(frozen=True)
class AbsVal(Op):
    """AbsVal has no options. Source: BVLC/caffe absval_layer.cpp, LayerSetUp."""

    type = "AbsVal"
    chooses = True

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AbsVal:
        expect(layer.top[:1] != layer.bottom[:1], "top equals bottom; AbsVal never works in place")
        return cls()
