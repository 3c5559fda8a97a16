"""Which files this process waits for at the moment, written where another process can read it.

A read or a write on a network folder that stops answering never returns, and while it lasts this
process may not be able to say so. Whoever waits for a file notes it here; the watchdog of the
commands reads the notes. Without a watchdog nothing is noted.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_NOTES, _SIZE = 128, 1024  # how many files are waited for at a time, and bytes for each
_HEAD = struct.Struct("<dqH")  # since when, which thread, how long the name is
_PART = 2**22  # bytes between two signs of life


class Note(NamedTuple):
    """A file that is waited for.

    Attributes:
        since: by the clock of ``time.monotonic``; tells two waits apart.
        thread: the system's number of the thread that waits.
        path: as it was given.
    """

    since: float
    thread: int
    path: str


class Board:
    """Notes in memory that is shared with processes forked later."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NOTES * _SIZE)
        self._free = list(range(0, _NOTES * _SIZE, _SIZE))

    def begin(self, path: str | os.PathLike[str]) -> int | None:
        """Notes that this thread waits from now on; gives what ``end`` needs."""
        try:
            place = self._free.pop()  # at once, so that threads need no lock
        except IndexError:
            return None
        name = os.fsencode(path)[: _SIZE - _HEAD.size]
        start = place + _HEAD.size
        self._memory[start : start + len(name)] = name
        _HEAD.pack_into(self._memory, place, time.monotonic(), threading.get_native_id(), len(name))
        return place

    def end(self, place: int | None) -> None:
        """Takes a note away."""
        if place is not None:
            _HEAD.pack_into(self._memory, place, 0.0, 0, 0)
            self._free.append(place)

    def notes(self) -> list[Note]:
        """What is waited for."""
        found = []
        for place in range(0, _NOTES * _SIZE, _SIZE):
            since, thread, length = _HEAD.unpack_from(self._memory, place)
            if since:
                start = place + _HEAD.size
                found.append(Note(since, thread, os.fsdecode(self._memory[start : start + length])))
        return found


_board: list[Board] = []  # the one a watchdog reads, if there is one


def note_on(board: Board | None) -> None:
    """Notes on a board from now on, or nowhere."""
    _board[:] = [] if board is None else [board]


def is_watched() -> bool:
    """Whether a watchdog reads the notes."""
    return bool(_board)


class Waiting:
    """Notes a file for as long as the block lasts; not for blocks that compute for long."""

    __slots__ = ("_board", "_path", "_place")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._board = _board[0] if _board else None
        if self._board is not None:
            self._place = self._board.begin(self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.end(self._place)


class NotedFile(io.FileIO):
    """A file whose reads and writes are noted, part by part, so that slow is not stalled.

    Args:
        path: the name to note.
        file: as for io.FileIO; ``path`` when absent.
        mode: as for io.FileIO.
    """

    def __init__(
        self, path: str | os.PathLike[str], file: int | None = None, mode: str = "r"
    ) -> None:
        self._noted = path
        super().__init__(os.fspath(path) if file is None else file, mode)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads some of the bytes."""
        with Waiting(self._noted):
            return super().readinto(memoryview(buffer).cast("B")[:_PART])

    def readall(self) -> bytes:
        """Reads to the end."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        if left < _PART:
            with Waiting(self._noted):
                return super().readall() or b""
        content = bytearray()
        part = memoryview(bytearray(_PART))
        while got := self.readinto(part):
            content += part[:got]
        return bytes(content)

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes some of the bytes."""
        with Waiting(self._noted):
            return super().write(memoryview(data).cast("B")[:_PART])

    def close(self) -> None:
        """Closes the file, which on a network writes what is left."""
        if self.closed or sys.is_finalizing():
            super().close()
            return
        with Waiting(self._noted):
            super().close()
