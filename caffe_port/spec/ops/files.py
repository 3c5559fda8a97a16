"""Options and shapes: HDF5 and MAT files, read and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


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
