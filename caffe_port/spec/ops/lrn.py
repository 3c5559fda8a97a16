"""LRN: local response normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class LRN(Op):
    """Options of LRN. Source: BVLC/caffe lrn_layer.cpp, LayerSetUp.

    Attributes:
        local_size: channels, or pixels per side, of a neighbourhood; odd.
        alpha, beta: of (k + alpha * mean of squares) ^ beta.
        k: used across channels only; within a channel it is 1.
        within: whether the neighbourhood lies within a channel.
    """

    type = "LRN"
    option_ranges = {"alpha": (0, 2), "beta": (0.2, 1.5), "k": (0.5, 2)}

    local_size: int
    alpha: float
    beta: float
    k: float
    within: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> LRN:
        o = layer.lrn_param
        expect(o.local_size % 2 == 1, f"local_size is {o.local_size}; expected an odd number")
        within = o.norm_region == caffe_pb2.LRNParameter.WITHIN_CHANNEL
        return cls(o.local_size, o.alpha, o.beta, o.k, within)

    def width(self, channels: int) -> int:
        """How many of so many channels a neighbourhood across them can hold: odd."""
        return min(self.local_size, max(2 * channels - 1, 1))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) == 4, f"a bottom of shape {bottoms[0]}; expected (N, C, H, W)")
        return [bottoms[0]]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) * self.local_size ** (2 if self.within else 1)

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        # across channels Caffe keeps one running sum, which every channel enters and leaves
        return self.local_size**2 if self.within else 2 * bottoms[0][1]
