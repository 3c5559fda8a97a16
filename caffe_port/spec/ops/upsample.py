"""Upsample of SegNet and ENet: puts values back where MAX pooling found them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class Upsample(Op):
    """Options of Upsample. Source: alexgkendall/caffe-segnet upsample_layer.cpp, LayerSetUp.

    Attributes:
        size: (height, width) of the top, or None where it follows from scale.
        scale: (height, width) of the top per pixel of the bottom.
        less: (height, width) taken off at the end, 0 or 1 (pad_out_h, pad_out_w).
    """

    type = "Upsample"
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    size: tuple[int, int] | None
    scale: tuple[int, int]
    less: tuple[int, int]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Upsample:
        o = layer.upsample_param
        if o.HasField("upsample_h") and o.HasField("upsample_w"):
            size = (o.upsample_h, o.upsample_w)
            expect(min(size) > 1, f"upsample_h, upsample_w are {size}; expected 2 or more")
            return cls(size, (1, 1), (0, 0))
        sides = o.HasField("scale_h"), o.HasField("scale_w")
        expect(
            not any(sides) or (all(sides) and not o.HasField("scale")),
            "expected scale, or both scale_h and scale_w, or both upsample_h and upsample_w",
        )
        scale = (o.scale_h, o.scale_w) if all(sides) else (o.scale, o.scale)
        expect(min(scale) > 1, f"scale is {scale}; expected 2 or more")
        less = (int(o.pad_out_h), int(o.pad_out_w))
        for by, factor in zip(less, scale, strict=True):
            expect(not by or factor == 2, f"pad_out with scale {factor}; it goes with scale 2")
        return cls(None, scale, less)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, mask = bottoms
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        expect(mask == shape, f"a mask of shape {mask} for a bottom of shape {shape}")
        height, width = self.size or (
            shape[2] * self.scale[0] - self.less[0],
            shape[3] * self.scale[1] - self.less[1],
        )
        return [(*shape[:2], height, width)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = self.top_shapes(bottoms)[0][2:]
        return Values(0, height * width - 1, whole=True) if index else Values()
