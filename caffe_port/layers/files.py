"""Modules: HDF5 and MAT files, read and written."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.mat import expect_inside, listed_names, write_mat
from caffe_port.data.rng import CaffeRandom, CLibraryRandom
from caffe_port.data.transformer import RandomStreams
from caffe_port.errors import CaffePortError, LayerError
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.data import SourceLayer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import files as ops


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

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        return RandomStreams(None, self.spec.dialect, transforms=False)

    def open(self) -> Hdf5Reader:
        op = self.spec.options(ops.HDF5Data)
        return Hdf5Reader(op.source, op.names, op.batch_size, self.order if op.shuffle else None)


@register_layer("HDF5Output")
class HDF5Output(Layer):
    """Writes the bottoms as the datasets `data` and `label`, with four axes each.

    Source: BVLC/caffe hdf5_output_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.data.hdf5 import write_pair

        op = self.spec.options(ops.HDF5Output)
        data, label = (blob.detach().float().cpu().numpy() for blob in bottoms)
        write_pair(op.file_name, data, label)
        return ()


@register_layer("MatRead")
class MatRead(Layer):
    """Reads batches of the items that MatWrite wrote: `<prefix><id>_blob_<i>.mat` for top i.

    Ids come from the list, which starts over at its end, or are iter_<n>; upstream's set-up crashes
    without a list.

    Source: DeepLab v2 mat_read_layer.cpp, matio_io.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.items = 0
        self.names: list[str] | None = None
        self.opened = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.MatRead)
        if not self.opened:
            with named(self.spec):
                self.names = op.names()
            self.opened = True
        items = range(self.items, self.items + op.batch_size)
        tops = tuple(
            torch.cat([self._read(op.path(self.names, item, i), i) for item in items])
            for i in range(op.count)
        )
        self.items += op.batch_size
        return tops

    def _read(self, path: str, top: int) -> Tensor:
        from caffe_port.data.mat import read_mat

        try:
            blob = read_mat(path)
        except CaffePortError as error:
            raise LayerError(self.spec.name, self.spec.type, str(error)) from error
        wanted = (1, *self.spec.top_shapes[top][1:])
        if blob.shape != wanted:
            message = f"'{path}' holds a blob of shape {blob.shape}; expected {wanted}"
            raise LayerError(self.spec.name, self.spec.type, message)
        return torch.from_numpy(blob)


@register_layer("MatWrite")
class MatWrite(Layer):
    """Writes `<prefix><id>_blob_<i>.mat`: variable `data`, single, axes (W, H, C, N).

    The list is opened at the first pass that writes, so that a net that writes nothing needs none.
    In Caffe a name can lead out of the prefix's folder; here it cannot.
    Source: DeepLab v2 mat_write_layer.cpp, matio_io.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.passes = 0
        self.names: list[str] | None = None

    def _stem(self, op: ops.MatWrite) -> str:
        if not op.source:
            return f"iter_{self.passes}"
        if self.names is None:
            with named(self.spec):
                names = listed_names(op.source, op.strip)
                expect_inside(op.prefix, names)
            self.names = names
        if self.passes >= len(self.names):
            message = f"pass {self.passes + 1}, but source names {len(self.names)} files"
            raise LayerError(self.spec.name, self.spec.type, message)
        return self.names[self.passes]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.MatWrite)
        if self.passes % op.period == 0:
            stem = self._stem(op)
            for i, blob in enumerate(bottoms):
                values = blob.detach().float().cpu().numpy()
                write_mat(f"{op.prefix}{stem}_blob_{i}.mat", values)
        self.passes += 1
        return ()
