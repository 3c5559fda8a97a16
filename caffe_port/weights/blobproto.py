"""Caffe's BlobProto: an array in protobuf, as caffemodels, solver states and mean files hold it.

NVCaffe (from 0.16 on) and OpenCV's shrinkCaffeModel store the values as raw bytes of a given type
instead; these are read too, and never written.

Source: BVLC/caffe caffe.proto, BlobProto; blob.cpp, FromProto and ToProto. NVIDIA/caffe
caffe.proto, BlobProto and Type; blob.cpp, FromProto.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.files import is_safetensors
from caffe_port.proto import wire
from caffe_port.weights.stored import Array, MappedFile, StoredBlob

MAX_AXES = 32
MAX_UNKNOWN = 20
INT_MAX = 2**31 - 1
# A file of tiny pieces would cost a hundred times its own size in Python objects.
MAX_PIECES = 65536

_LEGACY = ("num", "channels", "height", "width")  # fields 1 to 4
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
_DTYPES = {_DATA: "<f4", _DIFF: "<f4", _DOUBLE_DATA: "<f8", _DOUBLE_DIFF: "<f8"}
_NAMES = {
    _DATA: "data", _DIFF: "diff", _DOUBLE_DATA: "double_data", _DOUBLE_DIFF: "double_diff"
}  # fmt: skip
_FIXED = {4: wire.FIXED32, 8: wire.FIXED64}
# field and wire type: num to width, data, shape; a net's 5 and 7 are flags
_BLOB_STARTS = {
    *((number, wire.VARINT) for number in (1, 2, 3, 4)),
    *((number, wire.BYTES) for number in (5, 7)),
    (5, wire.FIXED32),
}
_RAW_DATA, _RAW_DIFF = 12, 13
_RAW_TYPE_OF = {10: _RAW_DATA, 11: _RAW_DIFF}  # raw_data_type, raw_diff_type
_RAW_NAMES = {_RAW_DATA: "raw_data", _RAW_DIFF: "raw_diff"}
_RAW_DTYPES = ("<f8", "<f4", "<f2")  # DOUBLE, FLOAT, FLOAT16


@dataclass
class _Piece:
    """``count`` values from ``offset`` on, ``stride`` bytes apart."""

    offset: int
    count: int
    stride: int


@dataclass
class _Values:
    """One field of values: where they are and their encoding."""

    name: str
    dtype: str
    pieces: list[_Piece]

    @property
    def count(self) -> int:
        return sum(piece.count for piece in self.pieces)


@dataclass
class _Draft:
    """A BlobProto while it is read: where its values are."""

    legacy: dict[int, int] = field(default_factory=dict)
    dims: list[int] = field(default_factory=list)
    pieces: dict[int, list[_Piece]] = field(default_factory=lambda: {n: [] for n in _DTYPES})
    raw: dict[int, wire.Field] = field(default_factory=dict)
    raw_types: dict[int, int] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)

    def values(self, double: int, single: int, raw: int) -> _Values:
        """Where the values are: double wins over float, and float over raw bytes."""
        for number in (double, single):
            if self.pieces[number]:
                return _Values(_NAMES[number], _DTYPES[number], self.pieces[number])
        return self.raw_values(raw) if raw in self.raw else _Values(_NAMES[single], "<f4", [])

    def raw_values(self, number: int) -> _Values:
        """The values in raw bytes, whose type another field gives."""
        item, name, kind = self.raw[number], _RAW_NAMES[number], self.raw_types.get(number)
        if kind is None:
            raise FormatError(
                f"{name} without {name}_type, which gives its type", offset=item.offset
            )
        if not 0 <= kind < len(_RAW_DTYPES):
            message = f"{name}_type is {kind}; expected 0 (double), 1 (float) or 2 (float16)"
            raise FormatError(message, offset=item.offset)
        dtype = _RAW_DTYPES[kind]
        size = np.dtype(dtype).itemsize
        length = _whole(item, size, name)
        return _Values(name, dtype, [_Piece(item.start, length // size, size)] if length else [])


def is_blob(head: bytes, size: int) -> bool:
    """Whether a file of that size starts like one BlobProto, as mean images are stored."""
    if is_safetensors(head, size):
        return False
    try:
        tag, _ = wire.read_varint(memoryview(head), 0, len(head))
    except FormatError:
        return False
    return (tag >> 3, tag & 7) in _BLOB_STARTS


def read_blob(source: MappedFile, start: int, end: int) -> StoredBlob:
    """Reads the BlobProto in ``source.view[start:end]`` without copying its values.

    As in Caffe, double values win over float ones, and if any of num, channels, height and width
    is present, ``shape`` is ignored. Values in several pieces are joined, and float16 ones become
    float32, which do copy.

    Raises:
        FormatError: broken encoding, a negative or too large shape, a number of values that
            differs from what the shape needs, or raw values of a type that has none.
    """
    draft = _Draft()
    pos = start
    while pos < end:
        item = wire.read_field(source.view, pos, end, source.budget)
        pos = _take(source, draft, item, end)
    shape = _shape(draft, start)
    values = draft.values(_DOUBLE_DATA, _DATA, _RAW_DATA)
    data = _array(source, values, shape, start)
    diffs = draft.values(_DOUBLE_DIFF, _DIFF, _RAW_DIFF)
    diff = _array(source, diffs, shape, start) if diffs.count else None
    blob = StoredBlob(
        data, bool(draft.legacy), diff, half=values.dtype == "<f2", unknown=tuple(draft.unknown)
    )
    size = np.dtype(values.dtype).itemsize
    if len(values.pieces) != 1 or values.pieces[0].stride != size:
        return blob
    offset, count = values.pieces[0].offset, values.pieces[0].count

    def load() -> Array:
        return _widened(source.load(offset, count, values.dtype)).reshape(shape)

    return replace(blob, load=load)


def warn_of_unknown(path: str, blobs: Iterable[tuple[str, StoredBlob]]) -> None:
    """Warns once of a file's blobs that hold fields which are not known: what is read lacks them.

    Args:
        path: the file.
        blobs: each with where it is, such as "layer 'conv', blob 0".
    """
    found = [(where, blob.unknown) for where, blob in blobs if blob.unknown]
    if found:
        where, numbers = found[0]
        more = f" (and of {len(found) - 1} more blobs)" if len(found) > 1 else ""
        fields = ", ".join(map(str, numbers))
        message = f"{path}: {where}{more}: unknown BlobProto fields {fields}; they are left out"
        warnings.warn(message, UnknownFieldWarning, stacklevel=3)


def _take(source: MappedFile, draft: _Draft, item: wire.Field, end: int) -> int:
    """Records one field of a BlobProto; returns the offset of the next one."""
    if 1 <= item.number <= len(_LEGACY):
        wire.expect(item, wire.VARINT, _LEGACY[item.number - 1])
        draft.legacy[item.number] = wire.signed(item.value)
    elif item.number == _SHAPE:
        wire.expect(item, wire.BYTES, "shape")
        for dim in _dims(source, item):
            draft.dims.append(dim)
            if len(draft.dims) > MAX_AXES:
                raise FormatError(f"a blob has over {MAX_AXES} axes", offset=item.offset)
    elif item.number in _RAW_TYPE_OF:
        target = _RAW_TYPE_OF[item.number]
        wire.expect(item, wire.VARINT, f"{_RAW_NAMES[target]}_type")
        draft.raw_types[target] = wire.signed(item.value)
    elif item.number in _RAW_NAMES:
        wire.expect(item, wire.BYTES, _RAW_NAMES[item.number])
        draft.raw[item.number] = item
    elif item.number in _DTYPES:
        return _take_values(source.view, draft, item, end)
    elif item.number not in draft.unknown and len(draft.unknown) < MAX_UNKNOWN:
        draft.unknown.append(item.number)
    return item.next


def _dims(source: MappedFile, shape: wire.Field) -> Iterator[int]:
    """The dims of a BlobShape, packed or not."""
    view = source.view
    for item in wire.fields(view, shape.start, shape.end, source.budget):
        if item.number == 1 and item.wire_type == wire.BYTES:
            yield from map(wire.signed, wire.packed_varints(view, item.start, item.end))
        elif item.number == 1:
            wire.expect(item, wire.VARINT, "dim")
            yield wire.signed(item.value)


def _take_values(view: memoryview, draft: _Draft, item: wire.Field, end: int) -> int:
    """Records a packed chunk, or a whole run of unpacked values, of a field of floats."""
    pieces, size = draft.pieces[item.number], np.dtype(_DTYPES[item.number]).itemsize
    if len(pieces) >= MAX_PIECES:
        raise FormatError(
            f"the values of a blob are in over {MAX_PIECES} pieces", offset=item.offset
        )
    if item.wire_type == _FIXED[size]:
        count = _run_length(view, item, size, end)
        pieces.append(_Piece(item.start, count, size + 1))
        return item.next + (count - 1) * (size + 1)
    wire.expect(item, wire.BYTES, _NAMES[item.number])
    length = _whole(item, size, _NAMES[item.number])
    if length:
        pieces.append(_Piece(item.start, length // size, size))
    return item.next


def _whole(item: wire.Field, size: int, name: str) -> int:
    """The length of a payload in bytes, checked to hold whole values of ``size`` bytes."""
    length = item.end - item.start
    if length % size:
        message = f"{name} is {length} bytes long, not a multiple of {size}"
        raise FormatError(message, offset=item.offset)
    return length


def _run_length(view: memoryview, first: wire.Field, size: int, end: int) -> int:
    """How many unpacked values of this field follow each other, the first included.

    Looked up in blocks, because a file may hold millions; every step is a one-byte tag and a
    value.
    """
    tag, stride, block = first.number << 3 | first.wire_type, size + 1, 1 << 16
    possible = 1 + (end - first.next) // stride
    count = 1
    while count < possible:
        here = min(block, possible - count)
        at = first.next + (count - 1) * stride
        same = np.ndarray((here,), np.uint8, view, at, (stride,)) == tag
        if not same.all():
            return count + int(same.argmin())
        count += here
    return count


def _shape(draft: _Draft, offset: int) -> tuple[int, ...]:
    """The blob's shape, checked to be one Caffe could hold."""
    dims = draft.dims
    if draft.legacy:
        dims = [draft.legacy.get(number, 0) for number in range(1, len(_LEGACY) + 1)]
    if any(dim < 0 for dim in dims):
        raise FormatError(f"a blob has a negative dimension: {dims}", offset=offset)
    # Zeros left out: numpy, too, refuses an empty array whose other axes are too long.
    if math.prod(dim for dim in dims if dim) > INT_MAX:
        raise FormatError(f"a blob of {dims} is beyond Caffe's 2^31 - 1 values", offset=offset)
    return tuple(dims)


def _array(source: MappedFile, values: _Values, shape: tuple[int, ...], offset: int) -> Array:
    """The values of one field in the blob's shape; a view where they are in one piece."""
    needed = math.prod(shape)
    if values.count != needed:
        raise FormatError(
            f"a blob of shape {shape} needs {needed} values, {values.name} holds {values.count}",
            offset=offset,
        )
    views = [
        source.array(piece.offset, piece.count, values.dtype, piece.stride)
        for piece in values.pieces
    ]
    if not views:
        return _widened(np.empty(shape, values.dtype))
    return _widened(views[0] if len(views) == 1 else np.concatenate(views)).reshape(shape)


def _widened(values: Array) -> Array:
    """float16 values as float32, which is exact; others as they are."""
    return values.astype(np.float32) if values.dtype.itemsize == 2 else values


@dataclass(frozen=True)
class EncodedBlob:
    """A BlobProto ready to be written: small byte strings and, untouched, the arrays between.

    Attributes:
        parts: in file order.
        size: bytes in all.
    """

    parts: tuple[bytes | Array, ...]
    size: int


def encode_blob(blob: StoredBlob) -> EncodedBlob:
    """Encodes a blob as Caffe does: packed values, shape; num to width if it is legacy.

    Args:
        blob: float32 or float64, see stored.check_writable.
    """
    double = blob.data.dtype.itemsize == 8
    parts: list[bytes | Array] = []
    if blob.legacy:
        parts += [wire.encode_int(i, n) for i, n in enumerate(blob.data.shape, start=1)]
    values = [(_DATA, blob.data)] if blob.diff is None else [(_DATA, blob.data), (_DIFF, blob.diff)]
    shape: list[bytes | Array] = []
    if not blob.legacy and blob.data.ndim:  # of a scalar Caffe writes no shape at all
        dims = b"".join(map(wire.encode_varint, blob.data.shape))
        shape = [wire.encode_bytes(_SHAPE, wire.encode_bytes(1, dims))]
    # Fields go in the order of their numbers: data 5, diff 6, shape 7, double_data 8, ...
    packed: list[bytes | Array] = []
    for number, array in values:
        if array.size:
            at = number + _DOUBLE_DATA - _DATA if double else number
            packed += [wire.encode_header(at, array.nbytes), array]
    parts += shape + packed if double else packed + shape
    return EncodedBlob(tuple(parts), sum(_length(part) for part in parts))


def raw_bytes(part: bytes | Array) -> bytes | memoryview:
    """A part's bytes in the file's order: little-endian, C order; copied only if needed."""
    if isinstance(part, bytes):
        return part
    plain = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def _length(part: bytes | Array) -> int:
    return len(part) if isinstance(part, bytes) else part.nbytes


def read_mean(source: MappedFile) -> Array:
    """The mean image in a .binaryproto file.

    Returns:
        (C, H, W) float32.
    Raises:
        FormatError: the file is not one BlobProto with three axes, or four of which the first
            is 1; a value is not a finite float32.
    """
    blob = read_blob(source, 0, source.size)
    warn_of_unknown(source.path, [("the mean image", blob)])
    shape = blob.data.shape
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or 0 in shape:
        raise FormatError(f"a mean image is (C, H, W) or (1, C, H, W), the blob is {shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        mean = blob.aligned().reshape(shape).astype(np.float32, copy=False)
    if not np.isfinite(mean).all():
        raise FormatError("a mean image holds values that are NaN or beyond float32")
    return mean
