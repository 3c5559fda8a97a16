"""Data: batches from a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._transform import Transform


@register_op
@dataclass(frozen=True)
class Data(Op):
    """Options of Data. Source: BVLC/caffe data_layer.cpp.

    Attributes:
        source: a database.
        backend: 'LMDB' or 'LEVELDB'.
        batch_size: items per batch.
        rand_skip: at the start, fewer records than this are passed over (DeepLab v1 only; later
            Caffes ignore it).
        transform: what is done to each item.
    """

    type = "Data"
    remark = "A LevelDB, backend's default, needs the package plyvel."
    bottoms = (0, 0)
    tops = (1, 2)
    kind = "source"

    source: str
    batch_size: int
    rand_skip: int
    transform: Transform
    backend: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Data:
        o = layer.data_param
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        backend = caffe_pb2.DataParameter.DB.Name(o.backend)
        transform = Transform.parse(layer.transform_param)
        return cls(o.source, o.batch_size, o.rand_skip, transform, backend)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        from caffe_port.data.database import first_datum
        from caffe_port.errors import DataError, UsageError

        try:
            first = first_datum(self.source, self.transform.color, self.backend)
        except (DataError, UsageError) as error:
            message = f"the shape follows from the first record: {error}"
            raise ValueError(message) from error
        n, (channels, height, width) = self.batch_size, first.values.shape
        return [(n, channels, *self.transform.size(height, width)), (n,)]
