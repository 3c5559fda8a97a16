"""HDF5 files of training data: read in batches, and written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from caffe_port.data.images import PathLike
from caffe_port.data.list_file import list_lines, named
from caffe_port.data.rng import CLibraryRandom
from caffe_port.data.transformer import Floats
from caffe_port.errors import DataError
from caffe_port.files import open_regular
from caffe_port.weights.hdf5 import new_file

# What h5py raises on a broken file, depending on where libhdf5 notices.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)
_MOST = 2**31 - 1  # Caffe's limit on the elements of a blob
_TIGHTEST = 16  # highest compression ratio of a large dataset; real data reaches a few
_SMALL = 2**27  # bytes of float32 up to which any compression ratio is accepted


class Hdf5Reader:
    """Batches of an HDF5Data layer; a batch may begin in one file and end in the next.

    Args:
        source: a list of files, one per line.
        names: datasets, each with one row per item.
        batch_size: rows per batch.
        order: shuffles the files at the start of every round, and the rows at the start of every
            file; None keeps both.
    Raises:
        DataError: the list or its first file is missing or malformed.
    Source: BVLC/caffe hdf5_data_layer.cpp.
    """

    def __init__(
        self,
        source: PathLike,
        names: Sequence[str],
        batch_size: int,
        order: CLibraryRandom | None = None,
    ) -> None:
        self.names, self.batch_size, self.order = tuple(names), batch_size, order
        self._files = listed_files(source)
        self._shuffle(self._files)
        self._rows = self._endless()
        self._first = next(self._rows)  # fails now rather than later
        self._waiting = True

    def next_batch(self) -> tuple[Floats, ...]:
        """The next batch: one array (N, ...) float32 per dataset.

        Raises:
            DataError: a file is missing or malformed, or its rows have another shape than those
                of the first.
        """
        tops = [np.empty((self.batch_size, *part.shape), np.float32) for part in self._first]
        for i in range(self.batch_size):
            row = self._first if self._waiting else next(self._rows, None)
            self._waiting = False
            if row is None:
                raise DataError("HDF5 files cannot be read any further after an error")
            for top, part in zip(tops, row, strict=True):
                top[i] = part
        return tuple(tops)

    def _endless(self) -> Iterator[list[Floats]]:
        data, rows = self._opened(0)
        shapes, place = [part.shape[1:] for part in data], 0
        while True:
            for row in rows:
                yield [part[row] for part in data]
            if len(self._files) > 1:
                place = (place + 1) % len(self._files)
                if place == 0:
                    self._shuffle(self._files)
                data, rows = self._opened(place)
                if (found := [part.shape[1:] for part in data]) != shapes:
                    where, name = self._files[place]
                    message = f"{name}: rows of {found}; the first file had {shapes}"
                    raise DataError(f"{where}: {message}")
            self._shuffle(rows)  # a new file's rows for the second time, as upstream does

    def _opened(self, place: int) -> tuple[list[Floats], list[int]]:
        where, name = self._files[place]
        with named(where):
            data = read_datasets(name, self.names)
        rows = list(range(len(data[0])))
        self._shuffle(rows)
        return data, rows

    def _shuffle(self, items: list[Any]) -> None:
        if self.order is not None:
            self.order.shuffle(items)


def listed_files(source: PathLike) -> list[tuple[str, str]]:
    """The names in a list of files, each with its place in the list.

    Raises:
        DataError: the list is missing, empty or not text.
    """
    return [
        (f"{source}: line {number}", name)
        for number, line in list_lines(source)
        for name in line.split()
    ]


def item_shapes(source: PathLike, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Shapes of the rows of the first file's datasets. Raises DataError as ``Hdf5Reader``."""
    where, first = listed_files(source)[0]
    with named(where):
        return [part.shape[1:] for part in read_datasets(first, names)]


def read_datasets(path: PathLike, names: Sequence[str]) -> list[Floats]:
    """Whole datasets of equal length, as float32.

    Raises:
        DataError: missing or broken; a dataset that is absent, has no rows, holds no numbers,
            keeps them in other files, or claims more values than are stored.
    """
    try:
        open_regular(path).close()  # h5py would wait for a pipe
        with h5py.File(path, "r") as file:
            data = [_read(file, name, f"{path}: dataset '{name}'") for name in names]
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as HDF5: {error}") from error
    lengths = {name: len(part) for name, part in zip(names, data, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: datasets of different lengths: {lengths}")
    return data


def _read(file: h5py.File, name: str, where: str) -> Floats:
    dataset: Any = file
    for part in filter(None, name.split("/")):
        here = isinstance(dataset, h5py.Group) and part in dataset.keys()  # noqa: SIM118
        if here and not isinstance(dataset.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"{where}: a soft or external link, which is refused")
        dataset = dataset[part] if here else None
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{where}: not found; the file has {', '.join(list(file)[:20])}")
    if dataset.dtype.kind not in "fiu" or dataset.shape is None:
        raise DataError(f"{where}: holds {dataset.dtype}; expected numbers")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{where}: keeps its values in other files, which is refused")
    count, stored = math.prod(dataset.shape), dataset.id.get_storage_size()
    filtered = dataset.compression is not None
    packed = dataset.dtype.itemsize * count / (_TIGHTEST if filtered else 1)
    packed = 0 if filtered and stored and 4 * count <= _SMALL else packed
    if not dataset.shape or count == 0 or count > _MOST or packed > stored:
        found = f"shape {dataset.shape}, of which {stored} bytes are stored"
        raise DataError(
            f"{where}: {found}; expected 1 to {_MOST} numbers in rows, all of them stored"
        )
    return np.asarray(dataset[()], np.float32)


def write_pair(path: PathLike, data: Floats, label: Floats) -> None:
    """Writes the datasets `data` and `label`; the file appears whole or not at all.

    Args:
        data, label: up to four axes, which become (N, C, H, W).
    Raises:
        OSError: the file cannot be written.
    Source: BVLC/caffe hdf5_output_layer.cpp, SaveBlobs.
    """
    with new_file(path) as file:
        for name, blob in (("data", data), ("label", label)):
            shape = (*blob.shape, 1, 1, 1)[: max(4, blob.ndim)]
            file.create_dataset(name, data=blob.reshape(shape))
