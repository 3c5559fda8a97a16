"""Notes which files this process waits for, in memory that the watchdog reads.

A read or write on a network folder that stops answering never returns, and meanwhile this process
may not be able to report it. Code that waits for a file notes it here; the commands' watchdog
reads the notes. Without a watchdog nothing is noted.
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

_NOTES, _SIZE = 128, 1024  # number of simultaneous waits, and bytes for each
_HEAD = struct.Struct("<dqH")  # start time, thread, length of the name
_PART = 2**22  # bytes of one noted read or write


class Note(NamedTuple):
    """A file that a thread waits for.

    Attributes:
        since: start of the wait, by ``time.monotonic``; distinguishes two waits.
        thread: the system's number of the waiting thread.
        path: as given.
    """

    since: float
    thread: int
    path: str


class Board:
    """Notes in memory shared with processes that are forked later."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NOTES * _SIZE)
        self._free = list(range(0, _NOTES * _SIZE, _SIZE))

    def begin(self, path: str | os.PathLike[str]) -> int | None:
        """Notes that this thread starts to wait; returns the argument of ``end``."""
        try:
            place = self._free.pop()  # atomic, so threads need no lock
        except IndexError:
            return None
        name = os.fsencode(path)[: _SIZE - _HEAD.size]
        start = place + _HEAD.size
        self._memory[start : start + len(name)] = name
        _HEAD.pack_into(self._memory, place, time.monotonic(), threading.get_native_id(), len(name))
        return place

    def end(self, place: int | None) -> None:
        """Removes a note."""
        if place is not None:
            _HEAD.pack_into(self._memory, place, 0.0, 0, 0)
            self._free.append(place)

    def notes(self) -> list[Note]:
        """All current notes."""
        found = []
        for place in range(0, _NOTES * _SIZE, _SIZE):
            since, thread, length = _HEAD.unpack_from(self._memory, place)
            if since:
                start = place + _HEAD.size
                found.append(Note(since, thread, os.fsdecode(self._memory[start : start + length])))
        return found


_board: list[Board] = []  # the board that a watchdog reads, if any


def note_on(board: Board | None) -> None:
    """Sets the board for notes; None notes nothing."""
    _board[:] = [] if board is None else [board]


def is_watched() -> bool:
    """Whether a watchdog reads the notes."""
    return bool(_board)


class Waiting:
    """Notes that the block waits for a file; not for blocks that compute for long."""

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
    """A file whose reads and writes are noted in parts, so slow ones do not count as stalled.

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
        """Reads some bytes."""
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
        """Writes some bytes."""
        with Waiting(self._noted):
            return super().write(memoryview(data).cast("B")[:_PART])

    def close(self) -> None:
        """Closes the file, which on a network writes the remaining bytes."""
        if self.closed or sys.is_finalizing():
            super().close()
            return
        with Waiting(self._noted):
            super().close()
