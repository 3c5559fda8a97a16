"""HDF5Output: writes two blobs to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


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
