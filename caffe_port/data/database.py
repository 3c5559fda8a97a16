"""Databases of Datum messages and their batches, and the IDX files that hold MNIST."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import PathLike, decode_image
from caffe_port.data.leveldb import LevelDbFile, write_leveldb
from caffe_port.data.lmdb import LmdbFile, write_lmdb
from caffe_port.data.transformer import Floats, Transformer, is_own, stacked
from caffe_port.errors import DataError, UsageError
from caffe_port.files import HEAD, open_regular, reading, seems_to_be

if TYPE_CHECKING:
    from caffe_port.proto import caffe_pb2

# The IDX files in which MNIST is distributed: images and their labels.
#
# Source: the format as MNIST's page describes it; BVLC/caffe
# examples/mnist/convert_mnist_data.cpp.

_IMAGES, _LABELS = 2051, 2049  # the magic numbers: bytes in three axes, and in one
_GZIP = b"\x1f\x8b"


def read_mnist(
    images: PathLike, labels: PathLike
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """The images and labels of a pair of files.

    Args:
        images: such as train-images-idx3-ubyte.
        labels: such as train-labels-idx1-ubyte.
    Returns:
        (N, rows, columns) uint8 and (N,) int8, since Caffe reads labels as signed.
    Raises:
        DataError: a file is missing, compressed, cut short or of another kind, or the numbers of
            items differ.
    """
    pixels, shape = _read(images, _IMAGES, 3)
    classes, (count,) = _read(labels, _LABELS, 1)
    if count != shape[0]:
        raise DataError(f"{images}: {shape[0]} images, but {labels} has {count} labels")
    return pixels.reshape(shape), classes.view(np.int8)


def _read(path: PathLike, magic: int, axes: int) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
    """The values and the sizes of the axes."""
    size = 4 + 4 * axes
    with reading(path), open_regular(path) as stream:
        head, length = stream.read(size), os.fstat(stream.fileno()).st_size
        shape = _shape(path, head, magic, axes)
        count = int(np.prod(shape, dtype=object))
        if length - size < count:
            message = f"{length - size} bytes for {' x '.join(map(str, shape))} values"
            raise DataError(f"{path}: {message}; the file is cut short")
        return np.frombuffer(stream.read(count), np.uint8), shape


def _shape(path: PathLike, head: bytes, magic: int, axes: int) -> tuple[int, ...]:
    if head.startswith(_GZIP):
        raise DataError(f"{path}: compressed by gzip; gunzip it first")
    if len(head) < 4 + 4 * axes:
        raise DataError(f"{path}: {len(head)} bytes; an IDX file's header alone has {4 + 4 * axes}")
    found, *shape = struct.unpack(f">{axes + 1}I", head)
    if found != magic:
        what = "images" if magic == _IMAGES else "labels"
        raise DataError(f"{path}: magic number {found}; a file of MNIST's {what} has {magic}")
    return tuple(shape)


_MOST = 2**31 - 1  # Caffe's limit on the elements of a blob


@dataclass(frozen=True)
class Datum:
    """A record of a database: an image, or any array of three axes, and its label.

    Attributes:
        values: (C, H, W) uint8 or float32; colours are blue, green, red.
        label: a whole number.
    """

    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    label: int


def read_datum(record: bytes, where: str, color: bool | None = None) -> Datum:
    """Decodes a Datum message.

    Args:
        record: the message.
        where: the record's name for errors.
        color: for an encoded image: True makes three channels (force_color), False one
            (force_gray), None keeps its own.
    Raises:
        DataError: not a Datum; sizes that do not match its values; a broken image.
    Source: BVLC/caffe data_transformer.cpp, Transform; io.cpp, DecodeDatumToCVMat.
    """
    from google.protobuf.message import DecodeError

    from caffe_port.proto import caffe_pb2

    try:
        message = caffe_pb2.Datum.FromString(record)
    except DecodeError as error:
        raise DataError(f"{where}: not a Datum message: {error}") from error
    return datum_of(message, where, color)


def datum_of(message: caffe_pb2.Datum, where: str, color: bool | None = None) -> Datum:
    """The values and the label of a parsed message; arguments and errors as ``read_datum``."""
    if message.encoded:
        image = decode_image(message.data, where, color)
        return Datum(image.transpose(2, 0, 1), message.label)
    shape = (message.channels, message.height, message.width)
    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    if message.data:
        values = np.frombuffer(message.data, np.uint8)
    else:
        values = np.array(message.float_data, np.float32)
    count = shape[0] * shape[1] * shape[2]
    if min(shape) < 1 or count > _MOST or count != values.size:
        what = seems_to_be(message.data[:HEAD])
        is_image = what.endswith("image")
        raise DataError(
            f"{where}: a Datum of {shape[0]} x {shape[1]} x {shape[2]} that holds {values.size} "
            "values; expected channels x height x width of them"
            + (f". It is {what}, but its field 'encoded' is not set: set it" * is_image)
        )
    return Datum(values.reshape(shape), message.label)


BACKENDS = ("lmdb", "leveldb")


def open_database(source: PathLike, backend: str) -> LmdbFile | LevelDbFile:
    """The records of a database, in the order of their keys.

    Args:
        source: its folder.
        backend: 'lmdb' or 'leveldb', in upper or lower case.
    Raises:
        DataError: missing, of the other kind, damaged or empty.
        UsageError: an unknown backend; plyvel is not installed.
    Examples:
        >>> from caffe_port.data import open_database
        >>> records = open_database("examples/shapes_voc/caffe_run/lmdb/db", "lmdb")
        >>> len(list(records))
        12
    """
    kind, other = _kinds(backend)
    if _looks_like(source, other) and not _looks_like(source, kind):
        raise DataError(
            f"{source}: holds a database of kind {other}, but the backend is {kind}; choose {other}"
        )
    return LmdbFile(source) if kind == "lmdb" else LevelDbFile(source)


def write_database(folder: PathLike, records: Iterable[tuple[bytes, bytes]], backend: str) -> int:
    """Writes a database of records with ascending keys; returns how many there were.

    Args:
        folder: created; it must not exist.
        backend: 'lmdb' or 'leveldb', in upper or lower case.
    Raises:
        UsageError: an unknown backend; plyvel is not installed; the folder exists.
    Examples:
        >>> from caffe_port.data import write_database
        >>> write_database("pairs", [(b"a", b"1"), (b"b", b"2")], "lmdb")
        2
    """
    write = write_lmdb if _kinds(backend)[0] == "lmdb" else write_leveldb
    return write(folder, records)


def check_backend(backend: str) -> str:
    """The backend in lower case. Raises UsageError for an unknown one."""
    if backend.lower() not in BACKENDS:
        raise UsageError(f"the backend is '{backend}'; expected {' or '.join(BACKENDS)}")
    return backend.lower()


def _kinds(backend: str) -> tuple[str, str]:
    """The backend and the other one."""
    kind = check_backend(backend)
    return kind, BACKENDS[1 - BACKENDS.index(kind)]


def _looks_like(source: PathLike, kind: str) -> bool:
    return (Path(source) / ("data.mdb" if kind == "lmdb" else "CURRENT")).is_file()


class DatabaseReader:
    """Batches of a Data layer: records in the order of their keys, again and again.

    Args:
        source: a database.
        backend: 'lmdb' or 'leveldb', in upper or lower case.
        batch_size: items per batch.
        transformer: applied to every item.
        skip: records skipped at the start.
    Attributes:
        own: the items of each batch that are decoded, the others being zeros; None is all. Without
            a crop all are decoded.
    Raises:
        DataError: the database is missing, damaged or empty.
    Source: BVLC/caffe data_layer.cpp.
    """

    def __init__(
        self,
        source: PathLike,
        batch_size: int,
        transformer: Transformer,
        *,
        backend: str = "lmdb",
        skip: int = 0,
    ) -> None:
        self.batch_size, self.transformer = batch_size, transformer
        self.own: range | None = None
        self._database = open_database(source, backend)
        self._records = self._endless()
        for _ in range(skip):
            next(self._records)

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next batch.

        Returns:
            data (N, C, H, W) and label (N,), float32. Without a crop, the first record of each
            batch sets the batch's size.
        Raises:
            DataError: a damaged record, or one of another size than the first.
        """
        items: list[Floats | None] = []
        self.places: list[str] = []
        labels, first = np.zeros(self.batch_size, np.float32), None
        for i, (key, record) in enumerate(itertools.islice(self._records, self.batch_size)):
            where = f"{self._database.path}: record {key[:80]!r}"
            self.places.append(where)
            if self.transformer.options.crop_size and not is_own(i, self.own):
                self.transformer.skip()
                items.append(None)
                continue
            datum = read_datum(record, where, self.transformer.options.color)
            item = self.transformer(datum.values, where)
            first = item if first is None else first
            if item.shape != first.shape:
                raise DataError(
                    f"{where}: {item.shape}, the first one of its batch is {first.shape}; "
                    "set crop_size"
                )
            items.append(item)
            labels[i] = datum.label
        if len(items) < self.batch_size:
            raise DataError(f"{self._database.path}: cannot be read any further after an error")
        return stacked(items), labels

    def skip_batches(self, batches: int) -> None:
        """Skips some batches without reading them."""
        records = sum(1 for _ in self._database)
        for _ in range(batches * self.batch_size % records):
            next(self._records)

    def _endless(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            yield from self._database


def first_datum(source: PathLike, color: bool | None, backend: str = "lmdb") -> Datum:
    """The first record, which gives a Data layer its shape.

    Raises:
        DataError: the database or its first record is missing or damaged.
    """
    database = open_database(source, backend)
    for key, record in database:
        return read_datum(record, f"{database.path}: record {key[:80]!r}", color)
    raise DataError(f"{database.path}: no record of the database can be reached")
