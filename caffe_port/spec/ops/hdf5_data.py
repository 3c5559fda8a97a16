"""HDF5Data: batches from HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class HDF5Data(Op):
    """Options of HDF5Data. Source: BVLC/caffe hdf5_data_layer.cpp.

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
