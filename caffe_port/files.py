"""Files: read with named errors, written whole or not at all, told apart by their first bytes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from caffe_port.errors import FormatError, ReadError
from caffe_port.stalls import NotedFile, Waiting

# What a file seems to be, judged by its first bytes; used to explain why it was refused.

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
HEAD = 4096
TEXT = "text, perhaps a prototxt"

_STARTS = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (ZIP_SIGNATURE, "a zip archive (.pt, .npz)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for: run git lfs pull"),
)
_PICKLE_PROTOCOLS = range(2, 6)


def head_of(file: AnyFile) -> bytes:
    """The first bytes of a file that is open already, or of one that ``read_head`` opens."""
    return file.head if isinstance(file, OpenFile) else read_head(file)


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular file, b"" of anything else."""
    with Waiting(path):
        if not Path(path).is_file():
            return b""
        with open(path, "rb") as stream:
            return stream.read(HEAD)


def seems_to_be(head: bytes) -> str:
    """A phrase for what starts so, or "" if it is nothing known."""
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_utf16(head):
        return "text in UTF-16: save it as UTF-8"
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PICKLE_PROTOCOLS:
        return "a Python pickle, which is not opened because doing so can run code"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, perhaps from a failed download"
    text = head[:-3] if len(head) == HEAD else head  # a character may be cut at the end
    try:
        printable = all(c.isprintable() or c in "\t\r\n" for c in text.decode())
    except UnicodeDecodeError:
        printable = False
    return TEXT if head and printable else ""


def _is_utf16(head: bytes) -> bool:
    """Without a mark at its start: every other byte of ASCII in UTF-16 is 0."""
    start = head[:8]
    pairs = (start[::2], start[1::2])
    return len(start) == 8 and any(
        not any(high) and is_text(low) for high, low in (pairs, pairs[::-1])
    )


def is_text(head: bytes) -> bool:
    """No control characters; a prototxt's comments may be in any encoding that has ASCII inside."""
    return bool(head) and all(byte >= 32 or byte in b"\t\r\n\f\v" for byte in head)


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file starts like safetensors: the length of a JSON object, then the object."""
    return head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size


@contextlib.contextmanager
def explaining(file: AnyFile, own: bytes = b"") -> Iterator[None]:
    """Gives a FormatError of the block the file's name and, where known, what the file is.

    Args:
        file: its name, or the open file.
        own: how files of the expected format start; one that does needs no explanation.
    Raises:
        FormatError: in place of one without a path.
    """
    try:
        yield
    except ReadError:
        raise
    except FormatError as error:
        head = head_of(file)
        what = "" if own and head.startswith(own) else seems_to_be(head)
        hint = f" (the file seems to be {what})" if what else ""
        raise FormatError(error.message + hint, path=name_of(file), offset=error.offset) from error


# Writing files so that a reader never sees half of one, and reading only what has an end.

_TO_DO = {
    errno.EACCES: "check the permissions of it and of its folder",
    errno.EPERM: "check the permissions of it and of its folder",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "make room there and run it again",
    errno.EDQUOT: "make room there and run it again",
    errno.EFBIG: "raise the limit of a file's size and run it again",
    errno.ENOENT: "check its name",
}
_ESCAPES = {
    "\n": "a newline (\\n)", "\t": "a tab (\\t)", "\r": "a carriage return (\\r)",
    "\a": "a bell (\\a)", "\b": "a backspace (\\b)", "\f": "a form feed (\\f)",
    "\v": "a vertical tab (\\v)",
}  # fmt: skip
MAX_TEXT = 64 * 2**20  # bytes of a list, a log or JSON: far above any real one


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to read its bytes.

    A pipe may wait for ever for its writer and a device have no end, and a list or a model of
    somebody else's can name either.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    return io.BufferedReader(NotedFile(path, _open_regular(path)))


def _open_regular(path: str | os.PathLike[str]) -> int:
    """The descriptor of ``open_regular``."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with Waiting(path):
        try:
            handle = os.open(path, flags)
        except FileNotFoundError as error:
            raise _no_such_file(error, os.fspath(path)) from error
        mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return handle


class OpenFile:
    """A regular file that is opened once, so that everything read of it is of the same bytes.

    Another file may get its name while a program runs; what was opened stays what it was. It is
    closed when nothing refers to it any more.

    Attributes:
        path: its name as given.
        handle: its descriptor.
        size: its length in bytes.
        head: its first ``HEAD`` bytes.
    Raises:
        OSError: as ``open_regular``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.handle = _open_regular(path)
        weakref.finalize(self, os.close, self.handle)
        self._state = _state(os.fstat(self.handle))
        self.size = self._state[0]
        with self.stream() as stream:
            self.head = stream.read(HEAD)

    def stream(self) -> BinaryIO:
        """Its bytes from the start on. One stream is read at a time, and closed after use."""
        stream = io.BufferedReader(NotedFile(self.path, os.dup(self.handle)))
        stream.seek(0)
        return stream

    def digest(self) -> str:
        """SHA-256 of its bytes, in hexadecimal."""
        found = hashlib.sha256()
        with self.stream() as stream:
            while part := stream.read(2**20):
                found.update(part)
        return found.hexdigest()

    def is_current(self) -> bool:
        """Whether its name still leads to a file of its size and time of last change."""
        with contextlib.suppress(OSError), Waiting(self.path):
            return _state(os.stat(self.path)) == self._state
        return False


AnyFile: TypeAlias = str | os.PathLike[str] | OpenFile  # a name, or the open file


def name_of(file: AnyFile) -> str:
    """A file's name as given."""
    return file.path if isinstance(file, OpenFile) else os.fspath(file)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _no_such_file(error: OSError, path: str) -> FileNotFoundError:
    """The error with what the user of Windows' backslashes needs to know."""
    found = [name for character, name in _ESCAPES.items() if character in path]
    why = os.strerror(errno.ENOENT)
    if found:
        why += f"; the name holds {' and '.join(found)}: in a prototxt a backslash begins an escape"
        why += ", write / in its place"
    return FileNotFoundError(errno.ENOENT, why, path)


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "") -> Iterator[None]:
    """Raises an OSError of the block, which reads a file, as a ReadError that names the file.

    Args:
        path: the file.
        what: what the file is, such as "the list".
    Raises:
        ReadError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        message = f"{what} cannot be read: {error.strerror or error}".lstrip()
        raise ReadError(message, path=path) from error


def read_json(path: str | os.PathLike[str], most: int = MAX_TEXT) -> Any:
    """The value that a JSON file of at most so many bytes holds.

    Raises:
        ReadError: the file cannot be read.
        FormatError: it is not JSON.
    """
    with reading(path):
        content = read_bytes(path, most)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error


def never_through_link(path: str, flags: int) -> int:
    """An ``opener`` for ``open``: a link that lies where we write is not followed, but an error."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


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
    """The text of a regular file in UTF-8, of at most ``MAX_TEXT`` bytes, without a BOM.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig")


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal.

    Raises:
        OSError: as ``open_regular``.
    """
    return OpenFile(path).digest()


def create(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file to write its bytes, which is noted as waiting; for ``atomic_path``'s name.

    Raises:
        OSError: it cannot be made.
    """
    with Waiting(path):
        raw = NotedFile(path, mode="w")
    return io.BufferedWriter(raw)


def expect_writable(path: str | os.PathLike[str]) -> None:
    """Finds out before a long computation whether ``atomic_path`` could write there.

    Args:
        path: the file's final name; of its folders some may be missing.
    Raises:
        OSError: it could not: the file is protected or a folder, or its folder cannot be written.
    """
    final = Path(path)
    _expect_replaceable(final)
    folder = next(folder for folder in (final.parent, *final.absolute().parents) if _there(folder))
    try:
        with Waiting(folder):
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{final.stem}.")
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(final)) from error


def described(error: OSError) -> str:
    """A system's error as one line: the file, what failed, and what to do where that is known."""
    if error.errno is None or error.filename is None:
        return str(error)
    name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
    words = f"{name}: {error.strerror}"
    to_do = _TO_DO.get(error.errno)
    return words if to_do is None or ";" in words else f"{words}; {to_do}"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; renames it to ``path`` when the block succeeds.

    The file is flushed to disk before the rename, so after a crash ``path`` holds either its old
    content or all of the new. When the block raises, the temporary file is removed.

    Args:
        path: the final name; its folder is made if it is missing.
    Raises:
        OSError: it cannot be written, or is there and protected against writing.
    """
    final = Path(path)
    temporary = _temporary(final)
    name = os.fspath(temporary)
    try:
        yield temporary
        # mkstemp makes files private; a finished file gets the permissions open() would give.
        umask = os.umask(0)
        os.umask(umask)
        with Waiting(final):
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text in UTF-8, whole or not at all.

    Raises:
        OSError: as ``atomic_path``.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary(final: Path) -> Path:
    """A new file beside the final one."""
    _expect_replaceable(final)
    try:
        with Waiting(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            # The suffix stays last because several writers choose the format by it.
            handle, name = tempfile.mkstemp(
                dir=final.parent, prefix=f".{final.stem}.", suffix=final.suffix
            )
            os.close(handle)
    except OSError as error:  # the temporary name means nothing to its reader
        raise OSError(error.errno, error.strerror, os.fspath(final)) from error
    return Path(name)


def _expect_replaceable(final: Path) -> None:
    """Refuses what renaming would replace all the same: a protected file, a device, a pipe."""
    with Waiting(final):
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(final))
        if not final.exists():
            return
        if not final.is_file():  # /dev/null, say, which root could replace
            message = "is there and no regular file; choose another name"
            raise OSError(errno.EEXIST, message, os.fspath(final))
        if not os.access(final, os.W_OK):
            os.close(os.open(final, os.O_WRONLY))  # the system says why


def _there(folder: Path) -> bool:
    with Waiting(folder):
        return os.path.lexists(folder)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable; some file systems refuse to sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
