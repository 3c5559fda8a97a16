"""One numeric field of a struct in a MAT file of version 5, such as SBD's GTcls.Segmentation.

Source: MathWorks, MAT-File Format, the chapter on level 5 MAT-files, structure arrays.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe_port.data.mat5 import COMPLEX, MATRIX, MOST, NUMBERS, TAG, Variable, find_variable
from caffe_port.errors import FormatError

_STRUCT = 2
_NUMERIC = range(6, 16)  # classes: double, single, then int8 to uint64
_LARGEST = 2**27  # bytes of a variable once inflated: far above any label map


@dataclass(frozen=True)
class _Content:
    """Bytes of a variable, and how errors name it."""

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
        The values, in MATLAB's shape and the type they are stored in.
    Raises:
        FormatError: no MAT file of version 5, no such struct or field, or it is damaged.
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


def _bytes(found: Variable) -> bytes:
    """The variable's element, inflated; no more than it claims is ever unpacked."""
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
        # asked for one byte more, zlib comes to the end of a whole stream and checks its sum
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
        raise content.wrong("a struct without a proper table of field names", base)
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
        raise content.wrong(f"{name} has no proper shape", start)
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
