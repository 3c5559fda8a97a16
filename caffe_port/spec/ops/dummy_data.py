"""DummyData: blobs made by fillers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op

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
