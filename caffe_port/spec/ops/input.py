"""Input: blobs that the caller fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Input(Op):
    """Options of Input. Source: BVLC/caffe input_layer.cpp."""

    type = "Input"
    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"

    shapes: tuple[Shape, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Input:
        shapes = [tuple(int(d) for d in shape.dim) for shape in layer.input_param.shape]
        count = len(layer.top)
        expect(
            len(shapes) in (0, 1, count),
            f"{len(shapes)} shapes for {count} tops; expected one for all or one each",
        )
        for shape in shapes:
            expect(all(d >= 0 for d in shape), f"a shape with a negative axis: {shape}")
        return cls(tuple(shapes * count if len(shapes) == 1 else shapes))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(
            bool(self.shapes),
            "no shape is given: write input_param { shape { dim: .. } }",
        )
        return list(self.shapes)
