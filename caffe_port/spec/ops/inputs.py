"""Options and shapes: blobs that the user or the prototxt fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op
from caffe_port.spec.ops.data import Transform


@register_op
@dataclass(frozen=True)
class Input(Op):
    """Input: blobs that the caller fills. Source: BVLC/caffe input_layer.cpp."""

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


T = TypeVar("T")


@register_op
@dataclass(frozen=True)
class DummyData(Op):
    """Options of DummyData: a shape and a filler per top.

    Source: BVLC/caffe dummy_data_layer.cpp, LayerSetUp.
    """

    type = "DummyData"
    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"

    shapes: tuple[Shape, ...]
    fillers: tuple[caffe_pb2.FillerParameter, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DummyData:
        o, tops = layer.dummy_data_param, len(layer.top)
        fillers = list(o.data_filler) or [caffe_pb2.FillerParameter()]
        return cls(tuple(_shapes(o, tops)), tuple(_spread(fillers, tops, "data_filler")))

    def renews(self, index: int) -> bool:
        return self.fillers[index].type != "constant"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return list(self.shapes)


def _shapes(o: caffe_pb2.DummyDataParameter, tops: int) -> list[Shape]:
    legacy = {"num": o.num, "channels": o.channels, "height": o.height, "width": o.width}
    if not any(legacy.values()):
        given = [tuple(int(size) for size in shape.dim) for shape in o.shape]
        return _spread(given, tops, "shape")
    expect(not o.shape, "shape and num, channels, height, width exclude one another")
    sizes = [_spread([int(size) for size in legacy[name]], tops, name) for name in legacy]
    return list(zip(*sizes, strict=True))


def _spread(given: list[T], tops: int, name: str) -> list[T]:
    """One entry per top, from one for all or one each."""
    expect(
        len(given) in (1, tops), f"{len(given)} {name} for {tops} tops; expected one, or one each"
    )
    return given * tops if len(given) == 1 else given


@register_op
@dataclass(frozen=True)
class MemoryData(Op):
    """MemoryData: batches of arrays that the caller provides.

    Source: BVLC/caffe memory_data_layer.cpp.

    Attributes:
        batch_size: items per batch.
        shape: channels, height and width of an item, after the transformation.
        transform: of images that are added; whole arrays are used as they are.
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

    def renews(self, index: int) -> bool:
        return False  # its tops are the caller's arrays


@register_op
@dataclass(frozen=True)
class Parameter(Op):
    """Options of Parameter: its shape; it starts as zeros.

    Source: BVLC/caffe parameter_layer.hpp.
    """

    type = "Parameter"
    shared_memory = "parameter"
    bottoms = (0, 0)

    shape: Shape

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Parameter:
        shape = tuple(int(d) for d in layer.parameter_param.shape.dim)
        expect(min(shape, default=0) >= 0, f"shape {shape} has a negative axis")
        return cls(shape)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self.shape]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        return [ParamShape("weight", self.shape)]


@dataclass(frozen=True)
class FedData(Op):
    """A layer without bottoms whose code is not here; the caller gives the shapes of its tops.

    Such as another fork's VideoData, or a Python layer that is not allowed to run. It is not
    registered: it has no type of its own.
    """

    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"
