"""Messages as prototxt, in the layout of protobuf's C++ printer, which Caffe's tools use.

Source: google/protobuf text_format.cc: fields by number, two spaces a level, the shortest number
that reads back as the same float, strings escaped byte by byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_port.proto.text import is_repeated

_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "'": r"\'", "\\": r"\\"}
_FLOAT_DIGITS, _DOUBLE_DIGITS = range(6, 10), range(15, 18)
_FLOAT_MAX = 3.4028234663852886e38


def print_text(message: Message) -> str:
    """The message as prototxt that Caffe reads; unknown binary fields are left out."""
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        for item in value if is_repeated(field) else (value,):
            if isinstance(item, Message):
                yield f"{indent}{field.name} {{"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field.name}: {_scalar(field, item)}"


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return str(field.enum_type.values_by_number[value].name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _real(value, _FLOAT_DIGITS)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _real(value, _DOUBLE_DIGITS)
    if isinstance(value, str):
        value = value.encode("utf-8", errors="surrogateescape")
    if isinstance(value, bytes):
        return '"' + "".join(map(_character, value)) + '"'
    return str(value)


def _character(byte: int) -> str:
    character = chr(byte)
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def _real(value: float, digits: range) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    text = ""
    for count in digits:
        text = f"{value:.{count}g}"
        read = float(text)
        if digits is _FLOAT_DIGITS:
            # rounded up, the largest float would pass struct's range
            read = _as_float32(min(max(read, -_FLOAT_MAX), _FLOAT_MAX))
        if read == value:
            break
    return text


def _as_float32(value: float) -> float:
    narrowed: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return narrowed
