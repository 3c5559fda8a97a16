"""ShuffleChannel of ShuffleNet: interleaves groups of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class ShuffleChannel(Op):
    """Options of ShuffleChannel. Source: farmingyard/ShuffleNet shuffle_channel_layer.cpp.

    Attributes:
        group: groups that the bottom's channels are made of.
    """

    type = "ShuffleChannel"

    group: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ShuffleChannel:
        group = layer.shuffle_channel_param.group
        expect(group > 0, "group is 0; expected 1 or more")
        return cls(group)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) >= 2, f"a bottom of shape {shape}; expected (N, C, ...)")
        expect(
            shape[1] % self.group == 0,
            f"{shape[1]} channels; expected a multiple of group {self.group}",
        )
        return [shape]
