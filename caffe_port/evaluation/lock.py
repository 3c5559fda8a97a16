"""One evaluation at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from caffe_port.data.pictures import PathLike
from caffe_port.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows: two evaluations at once are not noticed there
    fcntl = None  # type: ignore[assignment]

NAME = ".evaluation.lock"
_held: set[Path] = set()  # by this process, which may ask again


@contextlib.contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Keeps other processes from evaluating into a folder.

    The system frees the lock when a process ends, however it ends; the file stays.

    Raises:
        UsageError: another process holds it, or the folder cannot be written.
    """
    path = Path(folder).resolve() / NAME
    if fcntl is None or path in _held:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    with file:
        _take(file, path.parent)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


def _take(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(200).strip() or "another process"
        raise UsageError(
            f"{folder}: {holder} is evaluating into this folder: wait for it, end it, or choose "
            "another folder"
        ) from error
    except OSError:
        return  # a file system without locks
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
