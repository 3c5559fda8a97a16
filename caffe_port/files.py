"""Writing files so that a reader never sees half of one, and reading only what has an end."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_TEXT = 64 * 2**20  # bytes of a list, a log or JSON: far above any real one


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to read its bytes.

    A pipe may wait for ever for its writer and a device have no end, and a list or a model of
    somebody else's can name either.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return os.fdopen(handle, "rb")


def read_bytes(path: str | os.PathLike[str], most: int = MAX_TEXT) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        OSError: as ``open_regular``; it is larger.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            message = f"{size} bytes, expected at most {most}"
            raise OSError(errno.EFBIG, message, os.fspath(path))
        return stream.read()


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a regular file in UTF-8, of at most ``MAX_TEXT`` bytes.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; renames it to ``path`` when the block succeeds.

    The file is flushed to disk before the rename, so after a crash ``path`` holds either its old
    content or all of the new. When the block raises, the temporary file is removed.

    Args:
        path: the final name; its folder is made if it is missing.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last because several writers choose the format by it.
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}.", suffix=final.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; a finished file gets the permissions open() would give.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, final)
        _sync_folder(final.parent)
    except OSError as error:
        # a full disk names no file, and the temporary name means nothing to its reader
        if error.errno is not None and error.filename in (None, name):
            error.filename = os.fspath(final)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable; some file systems refuse to sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
