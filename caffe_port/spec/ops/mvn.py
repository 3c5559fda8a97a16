"""MVN: each item or plane shifted to mean 0 and scaled to variance 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class MVN(Op):
    """Options of MVN. Source: BVLC/caffe mvn_layer.cpp.

    Attributes:
        normalize_variance: False only subtracts the mean.
        across_channels: whether mean and variance are an item's, not a plane's.
        eps: added to the standard deviation.
    """

    type = "MVN"
    option_ranges = {"eps": (1e-09, 0.1)}

    normalize_variance: bool
    across_channels: bool
    eps: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MVN:
        o = layer.mvn_param
        return cls(o.normalize_variance, o.across_channels, o.eps)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) <= 4, f"a bottom of shape {bottoms[0]}; expected at most 4 axes")
        return [(bottoms[0] + (1, 1, 1, 1))[:4]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][1 if self.across_channels else 2 :])
