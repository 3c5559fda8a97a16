"""What a file seems to be, judged by its first bytes; used to explain why it was refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from caffe_port.errors import FormatError
from caffe_port.stalls import Waiting

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
def explaining(path: str | os.PathLike[str], own: bytes = b"") -> Iterator[None]:
    """Gives a FormatError of the block the file's name and, where known, what the file is.

    Args:
        path: the file.
        own: how files of the expected format start; one that does needs no explanation.
    Raises:
        FormatError: in place of one without a path.
    """
    try:
        yield
    except FormatError as error:
        head = read_head(path)
        what = "" if own and head.startswith(own) else seems_to_be(head)
        hint = f" (the file seems to be {what})" if what else ""
        raise FormatError(error.message + hint, path=path, offset=error.offset) from error
