"""Numeric variables of MAT files, version 5, without scipy's reader, which damaged files crash.

Source: MathWorks, MAT-File Format, the chapter on level 5 MAT-files.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from caffe_port.errors import FormatError
from caffe_port.files import open_regular

MATRIX, _COMPRESSED = 14, 15
_DOUBLE, _SINGLE = 6, 7  # classes of arrays
COMPLEX = 0x0800
# element types of numbers; small whole numbers of any class may be stored as integers
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
            13: "u8"}  # fmt: skip
MOST = 2**31 - 1  # values of an array; Caffe's own limit on a blob
_HEADER, TAG, _HEAD = 128, 8, 4096
_SMALL, _TIGHTEST = 2**26, 8  # bytes that may inflate as they like; of more, how many times


@dataclass(frozen=True)
class Variable:
    """A variable of a file, found but not read.

    Attributes:
        path: the file.
        name, shape: as stored.
        array_class: MATLAB's number of what it is: 2 a struct, 6 doubles, 7 singles, 9 uint8 ...
        real: whether it is a real array of singles or doubles.
        dtype: of the values as stored.
        start, size: where its element lies in the file.
        order: the bytes' order, as struct and numpy write it.
        compressed: whether that element is deflated.
        offset: where the values start, in the element once inflated.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    array_class: int
    real: bool
    dtype: str
    start: int
    size: int
    order: str
    compressed: bool
    offset: int

    def read(self) -> npt.NDArray[np.generic]:
        """The values, in MATLAB's order of axes.

        Raises:
            FormatError: they are not all there.
        """
        wanted = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if self.compressed and wanted > max(_SMALL, _TIGHTEST * self.size):
            message = f"variable '{self.name}': {self.size} bytes that inflate to {wanted}"
            raise FormatError(message, path=self.path, offset=self.start)
        with open(self.path, "rb") as stream:
            stream.seek(self.start)
            data = stream.read(self.size)
        if self.compressed:
            # what a file merely claims is never allocated: zlib stops at the end of its data
            data = _inflate(data, self.offset + wanted, self)
        if len(data) < self.offset + wanted:
            here = max(len(data) - self.offset, 0)
            message = f"variable '{self.name}' has {here} bytes of values; expected {wanted}"
            raise FormatError(message, path=self.path, offset=self.start)
        count = math.prod(self.shape)
        values = np.frombuffer(data, self.dtype, count, self.offset)
        return values.reshape(self.shape, order="F")


def _inflate(data: bytes, limit: int, where: Variable | _Place) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error as error:
        message = f"broken zlib data: {error}"
        raise FormatError(message, path=where.path, offset=where.start) from error


@dataclass(frozen=True)
class _Place:
    """Where an element's content lies, to say so in errors."""

    path: str
    start: int


def find_variable(path: str | os.PathLike[str], name: str) -> Variable | None:
    """The first variable of a name, or None if there is no such.

    Raises:
        FormatError: no MAT file of version 5, or broken before the variable was found.
        OSError: it cannot be opened.
    """
    path = os.fspath(path)
    with open_regular(path) as stream:
        end = os.fstat(stream.fileno()).st_size
        order = _byte_order(stream.read(_HEADER), path)
        position = _HEADER
        while position < end:
            stream.seek(position)
            kind, size = _tag(stream.read(TAG), order, _Place(path, position))
            start = position + TAG
            if size > end - start:
                message = f"an element of {size} bytes in the {end - start} bytes that are left"
                raise FormatError(message, path=path, offset=position)
            if kind in (MATRIX, _COMPRESSED):
                found = _variable(stream, order, kind, size, _Place(path, start))
                if found.name == name:
                    return found
            position = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
    return None


def _byte_order(header: bytes, path: str) -> str:
    orders = {b"IM": "<", b"MI": ">"}
    order = orders.get(header[126:128])
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] >> 8 != 1:
        raise FormatError("no header of a MAT file of version 5", path=path, offset=0)
    return order


def _tag(data: bytes, order: str, where: _Place) -> tuple[int, int]:
    if len(data) < TAG:
        raise FormatError("the file ends in a tag", path=where.path, offset=where.start)
    kind, size = struct.unpack(f"{order}II", data)
    return kind, size


def _variable(stream: BinaryIO, order: str, kind: int, size: int, where: _Place) -> Variable:
    head = stream.read(min(size, _HEAD))
    base = 0
    if kind == _COMPRESSED:
        head = _inflate(head, _HEAD, where)
        inner, _ = _tag(head[:TAG], order, where)
        if inner != MATRIX:
            return Variable(where.path, "", (), 0, False, "u1", where.start, size, order, True, 0)
        base = TAG
    flags, base = _element(head, base, order, where)
    dims, base = _element(head, base, order, where)
    name, base = _element(head, base, order, where)
    if len(flags) < 4 or len(dims) % 4:
        raise FormatError("a variable without flags", path=where.path, offset=where.start)
    (flag,) = struct.unpack(f"{order}I", flags[:4])
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    # zeros left out: numpy, too, refuses an empty array whose other axes are too long
    if min(shape, default=0) < 0 or math.prod(n for n in shape if n) > MOST:
        message = f"a variable of shape {shape}; expected at most {MOST} values"
        raise FormatError(message, path=where.path, offset=where.start)
    real = flag & 0xFF in (_DOUBLE, _SINGLE) and not flag & COMPLEX
    dtype, offset = "u1", base
    if real:
        kind_of_values, _, offset = _split_tag(head, base, order, where)
        if kind_of_values not in NUMBERS:
            message = f"values of type {kind_of_values}; expected numbers"
            raise FormatError(message, path=where.path, offset=where.start)
        dtype = order + NUMBERS[kind_of_values]
    return Variable(
        where.path, name.decode("latin-1"), shape, flag & 0xFF, real, dtype, where.start,
        size, order, kind == _COMPRESSED, offset,
    )  # fmt: skip


def _split_tag(head: bytes, base: int, order: str, where: _Place) -> tuple[int, int, int]:
    """Type, number of bytes and start of the element at ``base``; small ones share their tag."""
    kind, size = _tag(head[base : base + TAG], order, where)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, base + 4
    return kind, size, base + TAG


def _element(head: bytes, base: int, order: str, where: _Place) -> tuple[bytes, int]:
    _, size, start = _split_tag(head, base, order, where)
    if start + size > len(head):
        raise FormatError("a variable's head is cut off", path=where.path, offset=where.start)
    end = start + size
    return head[start:end], base + TAG if start == base + 4 else -(-end // 8) * 8
