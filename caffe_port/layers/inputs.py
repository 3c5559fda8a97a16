"""Modules: blobs that the user, the prototxt or a file of arrays fills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.mat import expect_inside, listed_names, write_mat
from caffe_port.data.rng import CaffeRandom, CLibraryRandom
from caffe_port.data.transformer import Floats, RandomStreams, Transformer
from caffe_port.errors import CaffePortError, LayerError
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.data import SourceLayer
from caffe_port.layers.fillers import fill
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import inputs


@register_layer("Input")
class Input(Layer):
    """Computes nothing. Source: BVLC/caffe input_layer.hpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Raises LayerError: its tops have to be given to the net."""
        tops = ", ".join(f"'{top}'" for top in self.spec.tops)
        raise LayerError(self.spec.name, self.spec.type, f"no data given for {tops}")


@register_layer("DummyData")
class DummyData(Layer):
    """Fills its tops at every forward pass; Caffe fills constant ones at set-up only.

    Random numbers come from Caffe's generator if the net was built under one
    (caffe_port.data.rng), else from torch's.

    Source: BVLC/caffe dummy_data_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        # the shapes of the spec, which the caller may have replaced
        return tuple(self.top(i, shape) for i, shape in enumerate(self.spec.top_shapes))

    def top(self, index: int, shape: Sequence[int]) -> Tensor:
        """Fills one top of any shape."""
        top = torch.empty(tuple(shape))
        with named(self.spec):
            fill(top, self.spec.options(inputs.DummyData).fillers[index], self.random)
        return top


@register_layer("MemoryData")
class MemoryData(Layer):
    """Tops: data (N, C, H, W) and label (N, 1, 1, 1), which is (N,) until the first pass.

    ``reset`` takes arrays as they are, ``add`` images that are transformed.

    Source: BVLC/caffe memory_data_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.options = op = spec.options(inputs.MemoryData)
        self.batch_size = op.batch_size
        draws = op.transform.draws(spec.phase)
        self._streams = RandomStreams(
            rng.current(), spec.dialect, transforms=draws, prefetches=False
        )
        self._transformer: Transformer | None = None
        self._data: Floats | None = None
        self._labels: Floats = np.zeros(0, np.float32)
        self._place, self._unread = 0, False

    def reset(self, data: Floats, labels: Floats) -> None:
        """Sets the arrays of the following batches, without copying or transforming them.

        As in Caffe, a layer in place on the tops of a pycaffe net writes into the arrays.

        Args:
            data: (n, C, H, W) float32, n a multiple of the batch size.
            labels: n float32 numbers, of any shape.
        Raises:
            LayerError: arrays of another dtype, shape or number.
        """
        wanted = self.options.shape
        if data.dtype != np.float32 or labels.dtype != np.float32:
            raise self._wrong(f"arrays of {data.dtype} and {labels.dtype}; expected float32")
        if data.shape[1:] != wanted:
            raise self._wrong(f"data of shape {data.shape}; expected (n, {str(wanted)[1:]}")
        if labels.size != len(data):
            raise self._wrong(f"{labels.size} labels for {len(data)} items")
        if len(data) == 0 or len(data) % self.batch_size:
            raise self._wrong(
                f"{len(data)} items; expected a multiple of the batch size {self.batch_size}"
            )
        data, labels = (np.require(array, requirements=["C", "W"]) for array in (data, labels))
        self._data, self._labels, self._place = data, labels.reshape(-1), 0
        self._unread = False

    def add(self, images: Sequence[npt.NDArray[np.generic]], labels: Sequence[float]) -> None:
        """Transforms images for the following batches (AddMatVector and AddDatumVector).

        Args:
            images: (C, H, W) each, uint8 or float32; a multiple of the batch size.
            labels: one per image.
        Raises:
            LayerError: added images have not been used yet, or ``reset`` raises.
            DataError: an image that the transformation does not fit.
        """
        if self._unread:
            raise self._wrong("the images added before must be used first")
        if not images:
            raise self._wrong("there is no image to add")
        if self._transformer is None:
            self._transformer = Transformer(
                self.options.transform, self.spec.phase, self._streams.transformer
            )
        made = [self._transformer(p, f"image {i}") for i, p in enumerate(images)]
        for i, image in enumerate(made):
            if image.shape != self.options.shape:
                raise self._wrong(f"image {i} becomes {image.shape}; expected {self.options.shape}")
        self.reset(np.stack(made), np.asarray(labels, np.float32))
        self._unread = True

    def set_batch_size(self, size: int) -> None:
        """Changes the number of items per batch.

        Raises:
            LayerError: a size below 1, or that does not divide the number of items, or added
                images have not been used yet.
        """
        if self._unread:
            raise self._wrong("the images added before must be used before the batch size changes")
        held = 0 if self._data is None else len(self._data)
        if size < 1 or held % size:
            raise self._wrong(f"batch size {size} for {held} items")
        self.batch_size, self._place = size, 0

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        data, label = self.next_batch()
        return torch.from_numpy(data.copy()), torch.from_numpy(label.copy())

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next items and labels, as views of the arrays of ``reset``."""
        if self._data is None:
            raise self._wrong("no data yet; give it with set_input_arrays")
        part = slice(self._place, self._place + self.batch_size)
        data, label = self._data[part], self._labels[part].reshape(-1, 1, 1, 1)
        self._place = (self._place + self.batch_size) % len(self._data)
        self._unread = self._unread and self._place != 0
        return data, label

    def _wrong(self, message: str) -> LayerError:
        return LayerError(self.spec.name, self.spec.type, message)


@register_layer("Parameter")
class Parameter(Layer):
    """Returns its parameter as the top. Source: BVLC/caffe parameter_layer.hpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (self.param("weight"),)


class FedData(Layer):
    """Never runs: a net skips it if one of its tops is given."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        tops = ", ".join(f"'{top}'" for top in self.spec.tops)
        message = f"its code is not run here: give the data of its tops {tops} as inputs"
        raise LayerError(self.spec.name, self.spec.type, message)


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
        op = self.spec.options(inputs.HDF5Data)
        return Hdf5Reader(op.source, op.names, op.batch_size, self.order if op.shuffle else None)


@register_layer("HDF5Output")
class HDF5Output(Layer):
    """Writes the bottoms as the datasets `data` and `label`, with four axes each.

    Source: BVLC/caffe hdf5_output_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.data.hdf5 import write_pair

        op = self.spec.options(inputs.HDF5Output)
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
        op = self.spec.options(inputs.MatRead)
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

    def _stem(self, op: inputs.MatWrite) -> str:
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
        op = self.spec.options(inputs.MatWrite)
        if self.passes % op.period == 0:
            stem = self._stem(op)
            for i, blob in enumerate(bottoms):
                values = blob.detach().float().cpu().numpy()
                write_mat(f"{op.prefix}{stem}_blob_{i}.mat", values)
        self.passes += 1
        return ()
