"""HDF5Data: reads batches from HDF5 files."""

from __future__ import annotations

from caffe_port.data.c_library import CLibraryRandom
from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.streams import Streams
from caffe_port.layers._registry import register_layer
from caffe_port.layers._source import SourceLayer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.hdf5_data import HDF5Data as Options


@register_layer("HDF5Data")
class HDF5Data(SourceLayer):
    """One top (N, ...) per dataset of its name.

    The order is the one an unseeded Caffe process has, whatever the seed: upstream shuffles with
    the C library's generator.

    Source: BVLC/caffe hdf5_data_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.order = CLibraryRandom()

    def seeds(self, thread: CaffeRandom | None) -> Streams:
        return Streams(None, self.spec.dialect, transforms=False)

    def open(self) -> Hdf5Reader:
        op = self.spec.options(Options)
        return Hdf5Reader(op.source, op.names, op.batch_size, self.order if op.shuffle else None)
