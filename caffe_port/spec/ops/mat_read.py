"""MatRead: blobs read from MATLAB files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class MatRead(Op):
    """Options of MatRead. Source: DeepLab v2 mat_read_layer.cpp.

    Attributes:
        prefix, source, strip: name the files as MatWrite's do.
        batch_size: files read per pass and top.
        count: number of tops.
    """

    type = "MatRead"
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
