"""MemoryData: batches of arrays that the caller hands over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._transform import Transform


@register_op
@dataclass(frozen=True)
class MemoryData(Op):
    """Options of MemoryData. Source: BVLC/caffe memory_data_layer.cpp.

    Attributes:
        batch_size: items per batch.
        shape: channels, height and width of an item, after the transformation.
        transform: what is done to pictures that are added; whole arrays are taken as they are.
    """

    type = "MemoryData"
    bottoms = (0, 0)
    tops = (2, 2)
    kind = "source"

    batch_size: int
    shape: tuple[int, int, int]
    transform: Transform

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MemoryData:
        o = layer.memory_data_param
        shape = (o.channels, o.height, o.width)
        expect(
            o.batch_size > 0 and min(shape) > 0,
            f"batch_size {o.batch_size} of items of {shape}; all four must be given, 1 or more",
        )
        return cls(o.batch_size, shape, Transform.parse(layer.transform_param))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(self.batch_size, *self.shape), (self.batch_size,)]
