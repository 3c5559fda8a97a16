"""Reading LMDB databases, as Caffe's tools write them.

LMDB's own library maps the file and trusts it: a database that was cut short ends the process.
This reader checks every page against the file, and takes no lock.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from caffe_port.data.pictures import PathLike
from caffe_port.errors import DataError
from caffe_port.files import open_regular

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG = 0x01  # a node whose value has pages of its own
_PAGE = struct.Struct("<8x2xHHH")  # flags, then where free space begins and ends
_META = struct.Struct("<II16xI44x8x24xQQ8xQ")
_NODE = struct.Struct("<HHHH")  # size low, size high, flags, size of the key
_DEEPEST = 32  # LMDB's own limit
_NO_ROOT = 2**64 - 1


class _Meta(NamedTuple):
    magic: int
    version: int
    page_size: int
    entries: int
    root: int
    transaction: int


class LmdbFile:
    """The records of an LMDB database, in the order of their keys.

    Args:
        path: the folder that holds data.mdb, or that file.
    Raises:
        DataError: missing, not an LMDB database of a 64-bit machine, damaged, or empty.
    Source: OpenLDAP LMDB 0.9, mdb.c: MDB_page, MDB_node, MDB_meta.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path) / "data.mdb" if Path(path).is_dir() else Path(path)
        try:
            with open_regular(self.path) as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read as an LMDB database: {error}") from error
        first = self._meta(0)
        self._page_size = first.page_size
        # a writer overwrites the older of the two
        meta = max(first, self._meta(self._page_size), key=lambda found: found.transaction)
        if meta.entries == 0 or meta.root == _NO_ROOT:
            raise DataError(f"{self.path}: the database is empty")
        self._root = meta.root

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields every key and value once. Raises DataError where a page is damaged."""
        self._left = len(self._data) // self._page_size  # a tree has no page twice
        return self._walk(self._root, 0)

    def _meta(self, offset: int) -> _Meta:
        if len(self._data) < offset + _PAGE.size + _META.size:
            raise self._broken(offset, "the file ends before its meta page does")
        meta = _Meta(*_META.unpack_from(self._data, offset + _PAGE.size))
        if meta.magic != _MAGIC or not _PAGE.unpack_from(self._data, offset)[0] & _META_PAGE:
            raise self._broken(offset, "not a meta page of LMDB")
        size = meta.page_size
        if meta.version != _VERSION or not 256 <= size <= 65536 or size & (size - 1):
            raise self._broken(offset, f"format {meta.version} with pages of {size} bytes")
        return meta

    def _walk(self, page: int, depth: int) -> Iterator[tuple[bytes, bytes]]:
        start = page * self._page_size
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise self._broken(start, "pages lead in a circle")
        if start + self._page_size > len(self._data):
            raise self._broken(start, "the page lies beyond the end of the file")
        flags, lower, _ = _PAGE.unpack_from(self._data, start)
        if flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF) or lower < 16:
            raise self._broken(start, "neither a branch nor a leaf")
        for place in range(start + 16, start + min(lower, self._page_size), 2):
            node = int.from_bytes(self._data[place : place + 2], "little")
            if not 16 <= node <= self._page_size - _NODE.size:
                raise self._broken(place, f"a record at {node} in a page of {self._page_size}")
            low, high, more, key_size = _NODE.unpack_from(self._data, start + node)
            if flags & _BRANCH:
                yield from self._walk(low | high << 16 | more << 32, depth + 1)
            else:
                yield self._record(start, node + _NODE.size, low | high << 16, more, key_size)

    def _record(
        self, start: int, node: int, size: int, flags: int, key_size: int
    ) -> tuple[bytes, bytes]:
        value, end = node + key_size, start + self._page_size
        if start + value + (8 if flags & _BIG else size) > end:
            raise self._broken(start + node, "a record reaches beyond its page")
        key, at = self._data[start + node : start + value], start + value
        if flags & ~_BIG:
            raise self._broken(start + node, "a key with several values, which Caffe never writes")
        if flags & _BIG:
            at = int.from_bytes(self._data[at : at + 8], "little") * self._page_size
            whole = at + 16 + size <= len(self._data)
            if not whole or not _PAGE.unpack_from(self._data, at)[0] & _OVERFLOW:
                raise self._broken(start + node, f"a value of {size} bytes is not at {at}")
            at += 16
        return key, self._data[at : at + size]

    def _broken(self, offset: int, what: str) -> DataError:
        return DataError(f"{self.path}: byte {offset}: {what}; the database is damaged")
