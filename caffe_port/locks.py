"""One process at a time: a lock that the system releases however its holder ends.

The package filelock is not used: several of its versions empty the file, and so the holder's name,
when they try to lock it, and it fails on file systems without locks.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from caffe_port.errors import UsageError
from caffe_port.files import never_through_link
from caffe_port.stalls import Waiting

try:
    import fcntl
except ImportError:  # Windows: concurrent processes are not detected
    fcntl = None  # type: ignore[assignment]

_TRIES = 10  # some file systems never report an open file and its path as the same file
_held: set[Path] = set()  # by this process, which may lock them again


@contextlib.contextmanager
def locked(file: str | os.PathLike[str], place: str, doing: str, instead: str) -> Iterator[None]:
    """Keeps other processes out during the block; the file is removed at its end.

    Args:
        file: the lock; the file and its folder are created.
        place: what the lock protects, as the user calls it.
        doing: what the other process does there, such as "evaluating into this folder".
        instead: what else the user may do, such as "choose another folder".
    Raises:
        UsageError: another process holds the lock, or the file cannot be written.
    """
    path = Path(file).parent.resolve() / Path(file).name
    if fcntl is None or path in _held:
        yield
        return
    with _lock_file(path, place, doing, instead):
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            with contextlib.suppress(OSError):
                path.unlink()


def _lock_file(path: Path, place: str, doing: str, instead: str) -> IO[str]:
    """The open lock file, locked until it is closed."""
    tries = 0
    while True:
        tries += 1
        try:
            with Waiting(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = open(path, "a+", opener=never_through_link)  # noqa: SIM115
        except OSError as error:
            raise UsageError(
                f"{place}: cannot be written: {error.strerror or error}; check its permissions "
                f"or {instead}"
            ) from error
        try:
            with Waiting(path):
                _lock(stream, place, doing, instead)
                # the previous holder may have removed the file after it was opened here
                if tries == _TRIES or _is_same_file(stream, path):
                    return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_same_file(stream: IO[str], path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat())


def try_lock(stream: IO[str]) -> bool:
    """Locks an open file until it is closed; False if another process holds the lock.

    Without locks in the system or the file system, the result is always True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _lock(stream: IO[str], place: str, doing: str, instead: str) -> None:
    if not try_lock(stream):
        stream.seek(0)
        holder = stream.read(200).strip() or "another process"
        raise UsageError(f"{place}: {holder} is {doing}: wait for it, end it, or {instead}")
    with contextlib.suppress(OSError):  # a full disk is reported elsewhere
        os.ftruncate(stream.fileno(), 0)
        os.write(stream.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
