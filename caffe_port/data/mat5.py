"""MAT files of version 5: numeric variables, and numeric fields of structs.

scipy's reader is not used because damaged files crash it.
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
_SMALL, _TIGHTEST = 2**26, 8  # bytes of any compression ratio; the highest ratio of more


@dataclass(frozen=True)
class Variable:
    """A variable of a file whose values are not read yet.

    Attributes:
        path: the file.
        name, shape: as stored.
        array_class: MATLAB's number of its class: 2 a struct, 6 doubles, 7 singles, 9 uint8 ...
        real: whether it is a real array of singles or doubles.
        dtype: of the values as stored.
        start, size: place of its element in the file.
        order: the byte order, in the notation of struct and numpy.
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
            # zlib stops at the end of its data, so a false size is never allocated
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
    """The place of an element's content, for errors."""

    path: str
    start: int


def find_variable(path: str | os.PathLike[str], name: str) -> Variable | None:
    """The first variable of a name, or None.

    Raises:
        FormatError: not a MAT file of version 5, or broken before the variable was found.
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
        raise FormatError("not the header of a MAT file of version 5", path=path, offset=0)
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
    # without zeros: numpy refuses an empty array whose other axes are too long
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
        raise FormatError("a variable's header is cut off", path=where.path, offset=where.start)
    end = start + size
    return head[start:end], base + TAG if start == base + 4 else -(-end // 8) * 8


# Fields of structs, from the chapter's section on structure arrays.

_STRUCT = 2
_NUMERIC = range(6, 16)  # classes: double, single, then int8 to uint64
_LARGEST = 2**27  # bytes of a variable once inflated: far above any label map


@dataclass(frozen=True)
class _Content:
    """Bytes of a variable, with its file for errors."""

    path: str
    data: bytes
    order: str

    def wrong(self, message: str, offset: int | None = None) -> FormatError:
        at = "" if offset is None else f" (byte {offset} of the variable)"
        return FormatError(message + at, path=self.path)

    def element(self, base: int) -> tuple[int, int, int, int]:
        """Type, start, end of an element's data, and where the next element's tag is."""
        if base + TAG > len(self.data):
            raise self.wrong("a variable ends in a tag", base)
        kind, size = struct.unpack_from(f"{self.order}II", self.data, base)
        if kind >> 16:  # a small element shares its tag
            kind, size, start = kind & 0xFFFF, kind >> 16, base + 4
            if size > 4:
                raise self.wrong(f"a small element of {size} bytes; at most 4 fit", base)
            return kind, start, start + size, base + TAG
        start = base + TAG
        if start + size > len(self.data):
            left = len(self.data) - start
            raise self.wrong(f"an element of {size} bytes where {left} are left", base)
        return kind, start, start + size, -(-(start + size) // 8) * 8

    def numbers(self, base: int, dtype: str) -> tuple[npt.NDArray[np.generic], int]:
        """An element's data as numbers, and the next element's tag."""
        _, start, end, after = self.element(base)
        size = np.dtype(dtype).itemsize
        if (end - start) % size:
            raise self.wrong(f"{end - start} bytes; expected numbers of {size}", base)
        return np.frombuffer(self.data[start:end], self.order + dtype), after


def read_field(path: str | os.PathLike[str], variable: str, field: str) -> npt.NDArray[np.generic]:
    """A numeric field of a struct of one element, such as ``GTcls.Segmentation``.

    Returns:
        The values, in MATLAB's shape and their stored type.
    Raises:
        FormatError: not a MAT file of version 5, no such struct or field, or it is damaged.
        OSError: the file cannot be opened.
    """
    found = find_variable(path, variable)
    if found is None:
        raise FormatError(f"no variable '{variable}'", path=path)
    if found.array_class != _STRUCT:
        message = f"'{variable}' is of class {found.array_class}; expected a struct (2)"
        raise FormatError(message, path=path)
    if math.prod(found.shape) != 1:
        message = f"'{variable}' has shape {found.shape}; expected a struct of one element"
        raise FormatError(message, path=path)
    content = _Content(found.path, _bytes(found), found.order)
    names, base = _field_names(content, found.offset)
    if field not in names:
        known = ", ".join(names) or "none"
        raise FormatError(f"'{variable}' has no field '{field}'; its fields: {known}", path=path)
    for _ in range(names.index(field)):
        *_, base = content.element(base)
    return _matrix(content, base, f"{variable}.{field}")


def read_numbers(path: str | os.PathLike[str], name: str) -> npt.NDArray[np.generic]:
    """A numeric variable of any type, or a field of a struct named as ``GTcls.Segmentation``.

    Returns:
        The values, in MATLAB's shape and the type they are stored in.
    Raises:
        FormatError: as ``read_field``.
        OSError: the file cannot be opened.
    """
    variable, _, field = name.partition(".")
    if field:
        return read_field(path, variable, field)
    found = find_variable(path, variable)
    if found is None:
        raise FormatError(f"no variable '{variable}'", path=path)
    data = _bytes(found)
    if not found.compressed:  # its tag was left out
        data = struct.pack(f"{found.order}II", MATRIX, len(data)) + data
    return _matrix(_Content(found.path, data, found.order), 0, variable)


def _bytes(found: Variable) -> bytes:
    """The variable's element, inflated up to its stated size."""
    _expect_small(found, found.size)
    with open(found.path, "rb") as stream:
        stream.seek(found.start)
        data = stream.read(found.size)
    if not found.compressed:
        return data  # its size was checked against the file's
    inflater = zlib.decompressobj()
    try:
        head = inflater.decompress(data, TAG)
        claimed = TAG + struct.unpack(f"{found.order}II", head)[1]
        _expect_small(found, claimed)
        # with one byte more as limit, zlib reaches the end of the stream and checks its sum
        data = head + inflater.decompress(inflater.unconsumed_tail, claimed - TAG + 1)
    except (zlib.error, struct.error) as error:
        message = f"broken zlib data: {error}"
        raise FormatError(message, path=found.path, offset=found.start) from error
    if len(data) != claimed or not inflater.eof:
        message = f"variable '{found.name}' has {len(data)} bytes; expected {claimed}"
        raise FormatError(message, path=found.path, offset=found.start)
    return data


def _expect_small(found: Variable, size: int) -> None:
    if size > _LARGEST:
        message = f"variable '{found.name}' has {size} bytes; at most {_LARGEST} are read"
        raise FormatError(message, path=found.path, offset=found.start)


def _field_names(content: _Content, base: int) -> tuple[list[str], int]:
    length, base = content.numbers(base, "i4")
    _, start, end, after = content.element(base)
    if length.size != 1 or not 0 < int(length[0]) <= 4096 or (end - start) % int(length[0]):
        raise content.wrong("a struct without a valid table of field names", base)
    size = int(length[0])
    names = [content.data[at : at + size] for at in range(start, end, size)]
    return [name.split(b"\0")[0].decode("latin-1") for name in names], after


def _matrix(content: _Content, base: int, name: str) -> npt.NDArray[np.generic]:
    kind, start, end, _ = content.element(base)
    if kind != MATRIX or start == end:
        raise content.wrong(f"{name} is empty; expected an array of numbers", base)
    flags, at = content.numbers(start, "u4")
    dims, at = content.numbers(at, "i4")
    _, _, _, at = content.element(at)  # its name
    if not flags.size or not dims.size or int(dims.min()) < 0:
        raise content.wrong(f"{name} has no valid shape", start)
    flag, shape = int(flags[0]), tuple(int(n) for n in dims)
    if flag & 0xFF not in _NUMERIC or flag & COMPLEX:
        raise content.wrong(f"{name} is of class {flag & 0xFF}; expected real numbers", start)
    kind, first, last, after = content.element(at)
    if kind not in NUMBERS:
        raise content.wrong(f"{name} has values of type {kind}; expected numbers", at)
    dtype = np.dtype(content.order + NUMBERS[kind])
    wanted = math.prod(shape) * dtype.itemsize
    if math.prod(n for n in shape if n) > MOST:
        raise content.wrong(f"{name} has shape {shape}; expected at most {MOST} values", at)
    if last - first != wanted or after > -(-end // 8) * 8:
        raise content.wrong(f"{name} has {last - first} bytes of values; expected {wanted}", at)
    values = np.frombuffer(content.data[first:last], dtype)
    return values.reshape(shape, order="F")
