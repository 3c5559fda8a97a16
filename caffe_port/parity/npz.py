"""Recordings kept as a folder: ``case.json`` and ``case.npz``.

The archive is read by its directory, not by ``numpy.load``, so that what an array claims to hold
is checked against what the file holds before anything is allocated.
"""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from caffe_port.errors import FormatError
from caffe_port.files import read_json
from caffe_port.parity.meta import DEFLATE_LIMIT, Array, Meta, parse_meta

READ_ERRORS = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError,
    SyntaxError, TokenError, TypeError, MemoryError,  # numpy parses an array's head as Python
)  # fmt: skip


def open_folder(folder: Path) -> tuple[Meta, dict[str, Callable[[], Array]]]:
    """Opens a golden folder.

    Returns:
        its meta data and a reader per key of the archive.
    Raises:
        FormatError: a file is missing or malformed.
    """
    archive = folder / "case.npz"
    try:
        with zipfile.ZipFile(archive) as file:
            members = [_check_member(file, info, archive) for info in file.infolist()]
    except READ_ERRORS as error:
        raise FormatError(f"not a readable .npz archive: {error}", path=archive) from error
    if len(set(members)) != len(members):
        raise FormatError("an array is there twice", path=archive)
    # opened at the first array, and then once: the directory is as long as the net
    opened = cache(lambda: zipfile.ZipFile(archive))
    readers: dict[str, Callable[[], Array]] = {
        name.removesuffix(".npy"): partial(_read, opened, archive, name) for name in members
    }
    return parse_meta(_read_json(folder / "case.json"), folder / "case.json"), readers


def _read_json(path: Path) -> dict[str, object]:
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise FormatError(f"a JSON {type(fields).__name__}, expected an object", path=path)
    return fields


def _check_member(file: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> str:
    """Compares what the member's header promises with the bytes it has."""

    def flaw(message: str) -> FormatError:
        return FormatError(f"member '{info.filename}': {message}", path=archive)

    if not info.filename.endswith(".npy"):
        raise flaw("not an array (.npy)")
    if info.file_size > DEFLATE_LIMIT * (info.compress_size + 1):
        raise flaw(f"claims {info.file_size} bytes in {info.compress_size} compressed ones")
    with file.open(info) as stream:
        shape, _, dtype = _read_header(stream)
        start = stream.tell()
    if dtype != np.dtype("<f4"):
        raise flaw(f"dtype {dtype}, expected little-endian float32")
    if min(shape, default=0) < 0 or start + 4 * math.prod(shape) != info.file_size:
        raise flaw(f"shape {list(shape)} does not fit its {info.file_size} bytes")
    return info.filename


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a head that Python 2 wrote
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"unknown .npy version {version}")


def _read(opened: Callable[[], zipfile.ZipFile], archive: Path, name: str) -> Array:
    try:
        with opened().open(name) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False), np.float32)
    except (*READ_ERRORS, KeyError) as error:
        raise FormatError(f"member '{name}': {error}", path=archive) from error
