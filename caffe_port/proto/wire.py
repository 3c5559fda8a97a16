"""Protobuf's wire format, below any schema: fields are read in place, never copied.

A message is a run of fields; each field is a tag (number and wire type) and a payload. Every
length is checked against the message that holds it before anything is done with it, so a file
can neither send a reader past its end nor make it allocate what it merely claims.

Source: the protobuf encoding specification; the limit on nesting is protobuf's own default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from caffe_port.errors import FormatError

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
WIRE_TYPE_NAMES = ("varint", "64-bit", "length-delimited", "group", "end of group", "32-bit")
MAX_NESTING = 100
MAX_FIELDS = 500_000  # of a file, values left out; a net of 2,000 layers has some 20,000
_MAX_VARINT_BYTES = 10
_FIXED_SIZE = {FIXED32: 4, FIXED64: 8}


class Field(NamedTuple):
    """One field of a message, as offsets into the buffer.

    Attributes:
        number: the field's number.
        wire_type: VARINT, FIXED64, BYTES, GROUP or FIXED32.
        offset: where the tag starts.
        start: where the payload starts (after a length, if there is one).
        end: one past the payload; for a group, where its closing tag starts.
        next: where the following field starts.
        value: a varint's unsigned 64-bit value, else 0.
    """

    number: int
    wire_type: int
    offset: int
    start: int
    end: int
    next: int
    value: int


class Budget:
    """How many more fields of a file are read; without it, empty ones would take minutes.

    Args:
        fields: at the start.
    """

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        self.left = self.most = fields

    def spend(self, offset: int) -> None:
        """Counts the field at ``offset``.

        Raises:
            FormatError: it is one too many.
        """
        self.left -= 1
        if self.left < 0:
            raise FormatError(f"over {self.most} fields besides values", offset=offset)


def read_varint(view: memoryview, pos: int, end: int) -> tuple[int, int]:
    """Reads an unsigned varint.

    Returns:
        The value, below 2**64, and the offset after it.
    Raises:
        FormatError: the buffer ends inside it, or it does not fit 64 bits.
    """
    if pos < end and view[pos] < 0x80:  # most tags and lengths are one byte
        return view[pos], pos + 1
    value = shift = 0
    for at in range(pos, min(end, pos + _MAX_VARINT_BYTES)):
        byte = view[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise FormatError("a varint does not fit 64 bits", offset=pos)
            return value, at + 1
        shift += 7
    if end - pos >= _MAX_VARINT_BYTES:
        raise FormatError(f"a varint is longer than {_MAX_VARINT_BYTES} bytes", offset=pos)
    raise FormatError("the message ends inside a varint", offset=pos)


def signed(value: int) -> int:
    """The int64 (or sign-extended int32) that a varint encodes."""
    return value - (1 << 64) if value >> 63 else value


def read_field(view: memoryview, pos: int, end: int, budget: Budget) -> Field:
    """Reads the field whose tag starts at ``pos`` in a message that ends at ``end``.

    A group is skipped as a whole.

    Raises:
        FormatError: the tag is not valid, the payload runs past ``end``, groups are nested deeper
            than MAX_NESTING or not closed, or the budget is spent.
    """
    budget.spend(pos)
    field = _read_flat(view, pos, end)
    if field.wire_type == END_GROUP:
        raise FormatError(f"group {field.number} is closed but was not opened", offset=pos)
    if field.wire_type == GROUP:
        return _skip_group(view, field, end, budget)
    return field


def fields(
    view: memoryview, start: int = 0, end: int | None = None, budget: Budget | None = None
) -> Iterator[Field]:
    """All fields of the message in ``view[start:end]``, in file order.

    Args:
        budget: of the whole file; a message alone has one of its own.
    Raises:
        FormatError: see read_field.
    """
    stop = len(view) if end is None else end
    pos, budget = start, budget or Budget()
    while pos < stop:
        field = read_field(view, pos, stop, budget)
        yield field
        pos = field.next


def packed_varints(view: memoryview, start: int, end: int) -> Iterator[int]:
    """The unsigned varints packed one after the other in ``view[start:end]``.

    Raises:
        FormatError: the last one is cut, or one does not fit 64 bits.
    """
    pos = start
    while pos < end:
        value, pos = read_varint(view, pos, end)
        yield value


def expect(field: Field, wire_type: int, name: str) -> None:
    """Refuses a known field that is encoded as another kind of value.

    Raises:
        FormatError: the wire types differ.
    """
    if field.wire_type != wire_type:
        raise FormatError(
            f"field {field.number} ({name}) is {WIRE_TYPE_NAMES[field.wire_type]}, "
            f"expected {WIRE_TYPE_NAMES[wire_type]}",
            offset=field.offset,
        )


def encode_varint(value: int) -> bytes:
    """Encodes an int64 or uint64; negative numbers take ten bytes, as protobuf does."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_header(number: int, length: int) -> bytes:
    """The tag and length that come before a length-delimited payload."""
    return encode_varint(number << 3 | BYTES) + encode_varint(length)


def encode_bytes(number: int, payload: bytes) -> bytes:
    """A whole length-delimited field: a string, bytes, a submessage or packed values."""
    return encode_header(number, len(payload)) + payload


def encode_int(number: int, value: int) -> bytes:
    """A whole varint field."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def _read_flat(view: memoryview, pos: int, end: int) -> Field:
    """Like read_field, but a group's opening and closing tags are fields of their own."""
    tag, start = read_varint(view, pos, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise FormatError(f"field number {number} is outside 1 to 2^29 - 1", offset=pos)
    if wire_type == VARINT:
        value, after = read_varint(view, start, end)
        return Field(number, wire_type, pos, start, after, after, value)
    if wire_type == BYTES:
        size, start = read_varint(view, start, end)
    elif wire_type in _FIXED_SIZE:
        size = _FIXED_SIZE[wire_type]
    elif wire_type in (GROUP, END_GROUP):
        size = 0
    else:
        raise FormatError(f"field {number} has wire type {wire_type}, not one of 0-5", offset=pos)
    if size > end - start:
        raise FormatError(
            f"field {number} claims {size} bytes, its message has {end - start} left", offset=pos
        )
    return Field(number, wire_type, pos, start, start + size, start + size, 0)


def _skip_group(view: memoryview, opening: Field, end: int, budget: Budget) -> Field:
    """The whole group that ``opening`` starts, found without recursion."""
    open_numbers, pos = [opening.number], opening.next
    while pos < end:
        budget.spend(pos)
        field = _read_flat(view, pos, end)
        if field.wire_type == GROUP:
            open_numbers.append(field.number)
            if len(open_numbers) > MAX_NESTING:
                raise FormatError(f"groups are nested over {MAX_NESTING} deep", offset=pos)
        elif field.wire_type == END_GROUP:
            expected = open_numbers.pop()
            if field.number != expected:
                raise FormatError(
                    f"group {expected} is closed by the tag of group {field.number}", offset=pos
                )
            if not open_numbers:
                return opening._replace(end=field.offset, next=field.next)
        pos = field.next
    raise FormatError(f"group {opening.number} is never closed", offset=opening.offset)
