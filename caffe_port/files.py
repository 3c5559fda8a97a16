"""Files: recognised by their first bytes, read with named errors, written atomically."""

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

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
TORCH_SIGNATURE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save before 1.6
HEAD = 4096
TEXT = "text, perhaps a prototxt"

_STARTS = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (ZIP_SIGNATURE, "a zip archive (.pt, .npz)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it refers to: run git lfs pull"),
)
_PICKLE_PROTOCOLS = range(2, 6)


def read_head(file: AnyFile) -> bytes:
    """The first bytes of a regular file, b"" for anything else."""
    if isinstance(file, OpenFile):
        return file.head
    with Waiting(file):
        if not Path(file).is_file():
            return b""
        with open(file, "rb") as stream:
            return stream.read(HEAD)


def seems_to_be(head: bytes) -> str:
    """A phrase for the kind of file that starts with ``head``, or "" if unknown."""
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_utf16(head):
        return "text in UTF-16: save it as UTF-8"
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PICKLE_PROTOCOLS:
        return "a Python pickle, which is not opened because doing so can run code"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, perhaps from a failed download"
    text = head[:-3] if len(head) == HEAD else head  # the last character may be incomplete
    try:
        printable = all(c.isprintable() or c in "\t\r\n" for c in text.decode())
    except UnicodeDecodeError:
        printable = False
    return TEXT if head and printable else ""


def _is_utf16(head: bytes) -> bool:
    """Whether it is UTF-16 without a byte order mark: every other byte of ASCII text is 0."""
    even, odd = head[:8:2], head[1:8:2]
    pairs = ((even, odd), (odd, even))
    return len(odd) == 4 and any(not any(high) and is_text(low) for high, low in pairs)


def is_text(head: bytes) -> bool:
    """Whether there are no control characters; comments may be in any superset of ASCII."""
    return bool(head) and all(byte >= 32 or byte in b"\t\r\n\f\v" for byte in head)


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file starts as safetensors do: the length of a JSON object, then the object."""
    return head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size


@contextlib.contextmanager
def explaining(file: AnyFile, own: bytes = b"") -> Iterator[None]:
    """Adds the file's name, and its actual kind where known, to a FormatError of the block.

    Args:
        file: its name, or the open file.
        own: first bytes of the expected format; a file that starts so needs no explanation.
    Raises:
        FormatError: instead of one without a path.
    """
    try:
        yield
    except ReadError:
        raise
    except FormatError as error:
        head = read_head(file)
        what = "" if own and head.startswith(own) else seems_to_be(head)
        hint = f" (the file seems to be {what})" if what else ""
        raise FormatError(error.message + hint, path=name_of(file), offset=error.offset) from error


_ESCAPES = {
    "\n": "a newline (\\n)", "\t": "a tab (\\t)", "\r": "a carriage return (\\r)",
    "\a": "a bell (\\a)", "\b": "a backspace (\\b)", "\f": "a form feed (\\f)",
    "\v": "a vertical tab (\\v)",
}  # fmt: skip
MAX_TEXT = 64 * 2**20  # bytes of a list, a log or JSON: far above any real one


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to read its bytes.

    Other kinds are refused, because a list or a model can name any file: a pipe may wait for its
    writer without limit, and a device may have no end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
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
    """A regular file that is opened once, so that all reads see the same bytes.

    Its name may be given to another file while a program runs; the open file stays the same. It
    is closed when nothing refers to it.

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
        state = os.fstat(self.handle)
        self.size, self._changed = state.st_size, state.st_mtime_ns
        with self.stream() as stream:
            self.head = stream.read(HEAD)

    def stream(self) -> BinaryIO:
        """Its bytes from the start. Read one stream at a time, and close it after use."""
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
        """Whether the file under its name still has its size and modification time."""
        with contextlib.suppress(OSError), Waiting(self.path):
            state = os.stat(self.path)
            return (state.st_size, state.st_mtime_ns) == (self.size, self._changed)
        return False


AnyFile: TypeAlias = str | os.PathLike[str] | OpenFile  # a name, or the open file


def open_file(file: AnyFile) -> OpenFile:
    """Opens a weight file, unless it is open already.

    Raises:
        FormatError: it is not a regular file.
        OSError: it cannot be opened.
    """
    if isinstance(file, OpenFile):
        return file
    with Waiting(file):
        is_regular = stat.S_ISREG(os.stat(file).st_mode)
    if not is_regular:
        raise FormatError("not a regular file", path=file)
    return OpenFile(file)


def name_of(file: AnyFile) -> str:
    """The file's name as given."""
    return file.path if isinstance(file, OpenFile) else os.fspath(file)


def _no_such_file(error: OSError, path: str) -> FileNotFoundError:
    """The error, with an explanation where the backslashes of a Windows path became escapes."""
    found = [name for character, name in _ESCAPES.items() if character in path]
    why = os.strerror(errno.ENOENT)
    if found:
        why += f"; the name holds {' and '.join(found)}: in a prototxt a backslash begins an escape"
        why += ", write / in its place"
    return FileNotFoundError(errno.ENOENT, why, path)


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "") -> Iterator[None]:
    """Turns an OSError of the block, which reads a file, into a ReadError that names the file.

    Args:
        what: what the file is, such as "the list".
    """
    try:
        yield
    except OSError as error:
        message = f"{what} cannot be read: {error.strerror or error}".lstrip()
        raise ReadError(message, path=path) from error


def read_json(path: AnyFile, most: int = MAX_TEXT) -> Any:
    """The value of a JSON file of at most ``most`` bytes.

    Raises:
        ReadError: the file cannot be read.
        FormatError: it is not JSON.
    """
    with reading(name_of(path)):
        content = read_bytes(path, most)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=name_of(path)) from error


def never_through_link(path: str, flags: int) -> int:
    """An ``opener`` for ``open`` with which writing to a symbolic link is an error."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def read_bytes(path: AnyFile, most: int = MAX_TEXT) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: as ``open_regular``, or it is larger.
    """
    with path.stream() if isinstance(path, OpenFile) else open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            message = f"{size} bytes, expected at most {most}"
            raise OSError(errno.EFBIG, message, name_of(path))
        return stream.read()


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a regular file in UTF-8, of at most ``MAX_TEXT`` bytes, without a BOM.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig")


def create(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a temporary name of ``atomic_path`` to write bytes; waits for the file are noted.

    Raises:
        OSError: it cannot be created.
    """
    with Waiting(path):
        raw = NotedFile(path, mode="w")
    return io.BufferedWriter(raw)


def expect_writable(path: str | os.PathLike[str]) -> None:
    """Checks before a long computation whether ``atomic_path`` can write there.

    Args:
        path: the file's final name; folders of it may be missing.
    Raises:
        OSError: the file is read-only or a folder, or its folder cannot be written.
    """
    final = Path(path)
    _expect_replaceable(final)
    try:
        with Waiting(final):
            folders = (final.parent, *final.absolute().parents)
            folder = next(folder for folder in folders if os.path.lexists(folder))
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{final.stem}.")
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(final)) from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary name next to ``path``; renames it to ``path`` when the block succeeds.

    The file is synced to disk before the rename, so after a crash ``path`` has either its old
    content or all of the new. When the block raises, the temporary file is removed.

    Args:
        path: the final name; its folder is created if it is missing.
        durable: False leaves the sync out, for files that are checked when they are read.
    Raises:
        OSError: it cannot be written, or exists and is read-only.
    """
    final = Path(path)
    temporary = _temporary(final)
    name = os.fspath(temporary)
    try:
        yield temporary
        # mkstemp's files are private; the final file gets the permissions that open() gives
        umask = os.umask(0)
        os.umask(umask)
        with Waiting(final):
            temporary.chmod(0o666 & ~umask)
            if durable:
                with temporary.open("rb+") as stream:
                    os.fsync(stream.fileno())
            os.replace(temporary, final)
            if durable:
                sync_folder(final.parent)
    except OSError as error:
        # a full disk names no file, and the temporary name would not help the user
        if error.errno is not None and error.filename in (None, name):
            error.filename = os.fspath(final)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text in UTF-8 atomically; errors are those of ``atomic_path``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file atomically; errors are those of ``atomic_path``."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _temporary(final: Path) -> Path:
    """A new file next to the final one."""
    _expect_replaceable(final)
    try:
        with Waiting(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            # the suffix stays last, because several writers choose the format by it
            handle, name = tempfile.mkstemp(
                dir=final.parent, prefix=f".{final.stem}.", suffix=final.suffix
            )
            os.close(handle)
    except OSError as error:  # the temporary name would not help the user
        raise OSError(error.errno, error.strerror, os.fspath(final)) from error
    return Path(name)


def _expect_replaceable(final: Path) -> None:
    """Refuses what a rename would replace nevertheless: a read-only file, a device, a pipe."""
    with Waiting(final):
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(final))
        if not final.exists():
            return
        if not final.is_file():  # such as /dev/null, which root could replace
            message = "exists and is not a regular file; choose another name"
            raise OSError(errno.EEXIST, message, os.fspath(final))
        if not os.access(final, os.W_OK):
            os.close(os.open(final, os.O_WRONLY))  # fails with the system's reason


def sync_folder(folder: Path) -> None:
    """Makes the rename durable; some file systems refuse to sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
