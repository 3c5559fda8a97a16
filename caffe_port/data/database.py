"""What a Data layer makes of a database of Datum records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from caffe_port.data.datum import Datum, read_datum
from caffe_port.data.lmdb import LmdbFile
from caffe_port.data.pictures import PathLike
from caffe_port.data.transformer import Floats, Transformer
from caffe_port.errors import DataError


class DatabaseReader:
    """Batches of a Data layer: records in the order of their keys, from the first after the last.

    Args:
        source: an LMDB database.
        batch_size: items per batch.
        transformer: applied to every item.
        skip: records passed over at the start.
    Raises:
        DataError: the database is missing, damaged or empty.
    Source: BVLC/caffe data_layer.cpp.
    """

    def __init__(
        self, source: PathLike, batch_size: int, transformer: Transformer, *, skip: int = 0
    ) -> None:
        self.batch_size, self.transformer = batch_size, transformer
        self._database = LmdbFile(source)
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
        items: list[Floats] = []
        labels = np.zeros(self.batch_size, np.float32)
        for i, (key, record) in enumerate(itertools.islice(self._records, self.batch_size)):
            where = f"{self._database.path}: record {key[:80]!r}"
            datum = read_datum(record, where, self.transformer.options.color)
            item = self.transformer(datum.values, where)
            if items and item.shape != items[0].shape:
                raise DataError(
                    f"{where}: {item.shape}, the first one of its batch is {items[0].shape}; "
                    "set crop_size"
                )
            items.append(item)
            labels[i] = datum.label
        if len(items) < self.batch_size:
            raise DataError(f"{self._database.path}: cannot be read on after an error")
        return np.stack(items), labels

    def pass_over(self, batches: int) -> None:
        """Goes on by some batches without reading them."""
        records = sum(1 for _ in self._database)
        for _ in range(batches * self.batch_size % records):
            next(self._records)

    def _endless(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            yield from self._database


def first_datum(source: PathLike, color: bool | None) -> Datum:
    """The first record, which gives a Data layer its shape.

    Raises:
        DataError: the database or its first record is missing or damaged.
    """
    database = LmdbFile(source)
    for key, record in database:
        return read_datum(record, f"{database.path}: record {key[:80]!r}", color)
    raise DataError(f"{database.path}: the database has no record that can be reached")
