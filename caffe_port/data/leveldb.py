"""LevelDB databases, read and written by the optional package plyvel.

LevelDB's library checks what it reads. As under Caffe, it writes into the folder even of a database
that is only read, and lets one process at a time open it.

    write_lmdb("train_lmdb", LevelDbFile("train_leveldb"))  # converts a database
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from caffe_port.data.images import PathLike
from caffe_port.errors import DataError, UsageError

_BATCH = 1000  # records that are written together, as Caffe's tools do
# Caffe's own settings: db_leveldb.cpp, GetLevelDBOptions
_OPTIONS = {"block_size": 65536, "write_buffer_size": 2**28, "max_open_files": 100}
_open: weakref.WeakValueDictionary[str, _Handle] = weakref.WeakValueDictionary()


class LevelDbFile:
    """The records of a LevelDB database, in the order of their keys.

    Args:
        path: its folder.
    Raises:
        DataError: missing, not a LevelDB, damaged, empty, or open in another process.
        UsageError: plyvel is not installed.
    Source: BVLC/caffe util/db_leveldb.cpp.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._handle = _opened(self.path)
        if next(iter(self), None) is None:
            # plyvel also finds nothing where the only block is damaged
            raise DataError(f"{self.path}: the database is empty, or all of it is damaged")

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields every key and value once.

        Raises DataError at the end where a block is damaged: LevelDB continues after it.
        """
        plyvel = _plyvel(self.path)
        try:
            yield from _Cursor(self._handle)
        except plyvel.Error as error:
            raise DataError(f"{self.path}: {_words(error)}; the database is damaged") from error


def write_leveldb(folder: PathLike, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Writes a database, which appears whole or not at all.

    Args:
        folder: created; it must not exist.
        records: keys and values, in any order.
    Returns:
        How many there were.
    Raises:
        UsageError: the folder exists; plyvel is not installed.
        OSError: it cannot be written.
    """
    target = Path(folder)
    plyvel = _plyvel(target)
    if os.path.lexists(target):
        raise UsageError(f"{target}: exists already; choose another name")
    unfinished = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        database = plyvel.DB(unfinished, create_if_missing=True, **_OPTIONS)
        try:
            count = _write(database, records)
        finally:
            database.close()
        os.chmod(unfinished, 0o777 & ~_umask())
        os.rename(unfinished, target)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(unfinished)
        raise
    return count


def _write(database: Any, records: Iterable[tuple[bytes, bytes]]) -> int:
    count, batch = 0, database.write_batch()
    for key, value in records:
        batch.put(key, value)
        count += 1
        if count % _BATCH == 0:
            batch.write()
            batch = database.write_batch()
    batch.write()
    return count


def _umask() -> int:
    """The process's mask, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class _Kept:
    """Owns an object of plyvel and closes it.

    The object is held by a table of the class: plyvel's objects (1.5.1) end the process when they
    are collected as part of a reference cycle, such as a reader and its generator.
    """

    _objects: ClassVar[dict[int, Any]] = {}

    def __init__(self, kept: Any) -> None:
        self._objects[id(kept)] = kept
        self._key = id(kept)
        weakref.finalize(self, _Kept._close, self._key)

    @property
    def kept(self) -> Any:
        """The object."""
        return self._objects[self._key]

    @classmethod
    def _close(cls, key: int) -> None:
        cls._objects.pop(key).close()


class _Handle(_Kept):
    """An open database; closed with the last reader, so that another process can open it."""


class _Cursor(_Kept):
    """Iterates once over a database."""

    def __init__(self, handle: _Handle) -> None:
        super().__init__(handle.kept.iterator(verify_checksums=True))
        self._handle = handle  # keeps the database open

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        found: tuple[bytes, bytes] = next(self.kept)
        return found


def _opened(path: Path) -> _Handle:
    """The handle that all readers in this process share: LevelDB refuses a second one."""
    name = os.path.realpath(path)
    if name in _open:
        return _open[name]
    if not (path / "CURRENT").is_file():  # LevelDB would create the folder
        raise DataError(f"{path}: not a LevelDB, which has a file CURRENT")
    plyvel = _plyvel(path)
    try:
        handle = _Handle(plyvel.DB(name, create_if_missing=False, paranoid_checks=True, **_OPTIONS))
    except plyvel.Error as error:
        hint = ""
        if "LOCK" in str(error):
            hint = (
                ". LevelDB lets one process at a time open a database, and writes into its folder "
                "even to read it; an LMDB has neither limit"
            )
        raise DataError(f"{path}: cannot be opened as a LevelDB: {_words(error)}{hint}") from error
    _open[name] = handle
    return handle


def _words(error: Exception) -> str:
    """LevelDB's message, which plyvel gives as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


def _plyvel(path: PathLike) -> Any:
    try:
        import plyvel
    except ImportError as error:
        raise UsageError(
            f"{os.fspath(path)}: LevelDB needs the package plyvel: pip install "
            "'caffe-port[leveldb]'. Or convert the images again with convert_imageset, which "
            "makes an LMDB, and set backend: LMDB"
        ) from error
    return plyvel
