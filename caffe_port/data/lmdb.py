"""LMDB databases, read and written as Caffe's tools do.

LMDB's own library maps the file and trusts it: a database that was cut short ends the process.
The reader here checks every page against the file, and takes no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from caffe_port.data.images import PathLike
from caffe_port.errors import DataError, UsageError
from caffe_port.files import atomic_path, open_regular

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG = 0x01  # a node whose value is on overflow pages
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
            raise self._broken(start, "the pages form a cycle")
        if start + self._page_size > len(self._data):
            raise self._broken(start, "the page is beyond the end of the file")
        flags, lower, _ = _PAGE.unpack_from(self._data, start)
        if flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF) or lower < 16:
            raise self._broken(start, "neither a branch nor a leaf page")
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


# The writer builds the tree from below, since no record is ever changed: full leaves first, then
# the branches over them.

_PAGE_SIZE, _HEADER = 4096, 16
_LARGEST_NODE = 2038  # larger ones would not fit twice into a page
_LONGEST_KEY = 511
_LARGEST_VALUE = 2**32 - 1
_INTEGER_KEY = 0x08  # the table of free pages has such keys
_NONE = 2**64 - 1
_TREE = struct.Struct("<IHHQQQQQ")
_Child = tuple[bytes, int]  # first key below a page, the page


def write_lmdb(folder: PathLike, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Writes a database, which appears whole or not at all.

    Args:
        folder: created; it must not exist.
        records: keys and values, keys ascending.
    Returns:
        How many there were.
    Raises:
        UsageError: the folder exists; a key that is not larger than the one before, or that is
            empty or longer than 511 bytes; a value of 4 GB.
        OSError: it cannot be written.
    Source: OpenLDAP LMDB 0.9, mdb.c: MDB_page, MDB_node, MDB_meta, mdb_node_add.
    """
    try:
        os.mkdir(folder)
    except FileExistsError:
        raise UsageError(f"{os.fspath(folder)}: exists already; choose another name") from None
    try:
        with (
            atomic_path(Path(folder) / "data.mdb") as temporary,
            temporary.open("wb") as stream,
        ):
            return _Writer(stream).write(records)
    except BaseException:
        with suppress(OSError):
            os.rmdir(folder)
        raise


class _Writer:
    """Writes the pages of one database."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._pages = stream, 2
        self._counts = {_BRANCH: 0, _LEAF: 0, _OVERFLOW: 0}

    def write(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Writes everything; returns the number of records."""
        self._stream.write(bytes(2 * _PAGE_SIZE))
        self._entries, last = 0, b""

        def nodes() -> Iterator[tuple[bytes, bytes]]:
            nonlocal last
            for key, value in records:
                _check(key, last, value)
                self._entries, last = self._entries + 1, key
                yield key, self._leaf_node(key, value)

        level = self._level(_LEAF, nodes())
        depth = 1 if level else 0
        while len(level) > 1:
            children = [
                (key, _branch_node(b"" if i == 0 else key, page))
                for i, (key, page) in enumerate(level)
            ]
            level, depth = self._level(_BRANCH, iter(children)), depth + 1
        self._stream.seek(0)
        self._stream.write(self._meta(0, 0, _NONE))
        self._stream.write(self._meta(1, depth, level[0][1] if level else _NONE))
        return self._entries

    def _leaf_node(self, key: bytes, value: bytes) -> bytes:
        size = len(value)
        flags, held = 0, value
        if _NODE.size + len(key) + size > _LARGEST_NODE:
            flags, held = _BIG, struct.pack("<Q", self._overflow(value))
        return _NODE.pack(size & 0xFFFF, size >> 16, flags, len(key)) + key + held

    def _overflow(self, value: bytes) -> int:
        count = (_HEADER - 1 + len(value)) // _PAGE_SIZE + 1
        page = self._pages
        self._stream.write(struct.pack("<QHHI", page, 0, _OVERFLOW, count) + value)
        self._stream.write(bytes(count * _PAGE_SIZE - _HEADER - len(value)))
        self._pages += count
        self._counts[_OVERFLOW] += count
        return page

    def _level(self, kind: int, nodes: Iterator[tuple[bytes, bytes]]) -> list[_Child]:
        """Writes the pages of one level; returns their first keys and their numbers."""
        children: list[_Child] = []
        waiting: list[bytes] = []
        first, room = b"", _PAGE_SIZE - _HEADER
        for key, node in nodes:
            padded = node + bytes(len(node) % 2)
            if len(padded) + 2 > room:
                children.append((first, self._page(kind, waiting)))
                waiting, room = [], _PAGE_SIZE - _HEADER
                # the leftmost key of a branch page is never read, and left out
                padded = _first_of_page(kind, padded)
            if not waiting:
                first = key
            waiting.append(padded)
            room -= len(padded) + 2
        if waiting:
            children.append((first, self._page(kind, waiting)))
        return children

    def _page(self, kind: int, nodes: list[bytes]) -> int:
        """Writes a page: the places of its nodes at the start, the nodes at the end."""
        places, upper = [], _PAGE_SIZE
        for node in nodes:
            upper -= len(node)
            places.append(upper)
        lower = _HEADER + 2 * len(nodes)
        page = self._pages
        self._stream.write(struct.pack("<QHHHH", page, 0, kind, lower, upper))
        self._stream.write(struct.pack(f"<{len(places)}H", *places) + bytes(upper - lower))
        self._stream.write(b"".join(reversed(nodes)))
        self._pages += 1
        self._counts[kind] += 1
        return page

    def _meta(self, number: int, depth: int, root: int) -> bytes:
        free = _TREE.pack(_PAGE_SIZE, _INTEGER_KEY, 0, 0, 0, 0, 0, _NONE)
        used = [0, 0, 0, 0]
        if root != _NONE:
            used = [*self._counts.values(), self._entries]
        main = _TREE.pack(0, 0, depth, *used, root)
        last = self._pages - 1 if number else 1
        head = struct.pack("<QHHHH", number, 0, _META_PAGE, 0, 0)
        size = max(2**20, self._pages * _PAGE_SIZE)
        head += struct.pack("<IIQQ", _MAGIC, _VERSION, 0, size)
        return (head + free + main + struct.pack("<QQ", last, number)).ljust(_PAGE_SIZE, b"\0")


def _branch_node(key: bytes, page: int) -> bytes:
    low, high, more = page & 0xFFFF, page >> 16 & 0xFFFF, page >> 32
    return _NODE.pack(low, high, more, len(key)) + key


def _first_of_page(kind: int, node: bytes) -> bytes:
    if kind == _LEAF:
        return node
    return node[:6] + b"\0\0"


def _check(key: bytes, last: bytes, value: bytes) -> None:
    if not 0 < len(key) <= _LONGEST_KEY:
        raise UsageError(f"key {key[:80]!r} of {len(key)} bytes; expected 1 to {_LONGEST_KEY}")
    if key <= last:
        raise UsageError(f"key {key[:80]!r} after {last[:80]!r}; keys must ascend")
    if len(value) > _LARGEST_VALUE:
        raise UsageError(f"the value of {key[:80]!r} has {len(value)} bytes, over LMDB's limit")
