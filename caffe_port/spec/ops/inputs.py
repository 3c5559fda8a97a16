"""Options and shapes: blobs that the user, the prototxt or a file of arrays fills."""

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


@register_op
@dataclass(frozen=True)
class HDF5Data(Op):
    """HDF5Data: batches from HDF5 files. Source: BVLC/caffe hdf5_data_layer.cpp.

    Attributes:
        source: a list of HDF5 files.
        batch_size: rows per batch.
        shuffle: whether files, and rows within each, come in random order.
        names: the datasets, named as the tops are.
    """

    type = "HDF5Data"
    remark = "No recording: checked by upstream's unit tests and by hand."
    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"

    source: str
    batch_size: int
    shuffle: bool
    names: tuple[str, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> HDF5Data:
        o = layer.hdf5_data_param
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        expect(
            not layer.HasField("transform_param"), "HDF5Data transforms nothing; found a "
            "transform_param",
        )  # fmt: skip
        return cls(o.source, o.batch_size, o.shuffle, tuple(layer.top))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        from caffe_port.data.hdf5 import item_shapes
        from caffe_port.errors import DataError

        try:
            shapes = item_shapes(self.source, self.names)
        except DataError as error:
            message = f"the shapes follow from the first file: {error}"
            raise ValueError(message) from error
        return [(self.batch_size, *shape) for shape in shapes]


@register_op
@dataclass(frozen=True)
class HDF5Output(Op):
    """Options of HDF5Output: the file's name. Source: BVLC/caffe hdf5_output_layer.cpp."""

    type = "HDF5Output"
    remark = "Every pass replaces the file; upstream's second one fails, as its datasets exist."
    bottoms = (2, 2)
    tops = (0, 0)
    kind = "sink"

    file_name: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> HDF5Output:
        expect(bool(layer.hdf5_output_param.file_name), "file_name is empty")
        return cls(layer.hdf5_output_param.file_name)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(1 <= len(shape) <= 4, f"bottom {i} has shape {shape}; expected 1 to 4 axes")
        items = [shape[0] for shape in bottoms]
        expect(items[0] == items[1], f"bottoms of {items[0]} and {items[1]} items; expected equal")
        return []


@register_op
@dataclass(frozen=True)
class MatRead(Op):
    """MatRead: blobs read from MATLAB files. Source: DeepLab v2 mat_read_layer.cpp.

    Attributes:
        prefix, source, strip: name the files as MatWrite's do.
        batch_size: files read per pass and top.
        count: number of tops.
    """

    type = "MatRead"
    outside_torch = True
    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"

    prefix: str
    source: str
    strip: int
    batch_size: int
    count: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MatRead:
        o = layer.mat_read_param
        expect(o.batch_size > 0, f"batch_size is {o.batch_size}; expected 1 or more")
        expect(o.strip >= 0, f"strip is {o.strip}; expected 0 or more")
        return cls(o.prefix, o.source, o.strip, o.batch_size, len(layer.top))

    def names(self) -> list[str] | None:
        """The ids that ``source`` lists, or None where passes are counted.

        Raises:
            ValueError: the list cannot be read or is empty.
        """
        from caffe_port.data.mat import listed_names

        if not self.source:
            return None
        names = listed_names(self.source, self.strip)
        expect(bool(names), f"source '{self.source}' is empty")
        return names

    def path(self, names: list[str] | None, item: int, top: int) -> str:
        """The file of the ``item``-th item read since the start; a list starts over at its end."""
        stem = f"iter_{item}" if names is None else names[item % len(names)]
        return f"{self.prefix}{stem}_blob_{top}.mat"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Batches of the shape that the first files have."""
        from caffe_port.data.mat import mat_shape
        from caffe_port.errors import CaffePortError

        names = self.names()
        shapes = []
        for i in range(self.count):
            try:
                shape = mat_shape(self.path(names, 0, i))
            except CaffePortError as error:
                where = f"{self.source}: line 1: " if self.source else ""
                message = f"the shape follows from the first file: {where}{error}"
                raise ValueError(message) from error
            expect(shape[0] == 1, f"the first file of top {i} holds {shape[0]} items; expected 1")
            shapes.append((self.batch_size, *shape[1:]))
        return shapes


@register_op
@dataclass(frozen=True)
class MatWrite(Op):
    """MatWrite: a MATLAB file per forward pass. Source: DeepLab v2 mat_write_layer.cpp.

    Attributes:
        prefix: what file names start with.
        source: a list whose n-th line names the n-th file, or '' to count.
        strip: characters cut from the end of each name of the list.
        period: a file every that many passes.
    """

    type = "MatWrite"
    bottoms = (1, None)
    tops = (0, 0)
    kind = "sink"

    prefix: str
    source: str
    strip: int
    period: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MatWrite:
        o = layer.mat_write_param
        expect(o.period > 0, f"period is {o.period}; expected 1 or more")
        expect(o.strip >= 0, f"strip is {o.strip}; expected 0 or more")
        return cls(o.prefix, o.source, o.strip, o.period)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(len(shape) <= 4, f"bottom {i} has shape {shape}; a file holds up to 4 axes")
        return []
