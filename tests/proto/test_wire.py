"""Protobuf's wire format, against protobuf's own encoder and against broken bytes."""

from __future__ import annotations

import pytest
from google.protobuf.internal import encoder
from hypothesis import given
from hypothesis import strategies as st

from caffe_port.errors import FormatError
from caffe_port.proto import wire


def parse(data: bytes) -> list[wire.Field]:
    return list(wire.fields(memoryview(data)))


@given(st.integers(-(2**63), 2**64 - 1))
def test_varint_comes_back(value: int) -> None:
    encoded = wire.encode_varint(value)
    decoded, after = wire.read_varint(memoryview(b"\xff" + encoded + b"\x01"), 1, len(encoded) + 2)
    assert decoded == value % 2**64
    assert after == 1 + len(encoded)


@given(st.integers(0, 2**64 - 1))
def test_varint_is_protobufs(value: int) -> None:
    assert wire.encode_varint(value) == encoder._VarintBytes(value)


def test_negative_int_takes_ten_bytes() -> None:
    assert wire.encode_varint(-1) == b"\xff" * 9 + b"\x01"
    assert wire.signed(2**64 - 1) == -1
    assert wire.signed(2**63 - 1) == 2**63 - 1


def test_every_kind_of_field() -> None:
    data = (
        wire.encode_int(1, 300)
        + b"\x11" + bytes(8)  # 2: 64-bit
        + wire.encode_bytes(3, b"abc")
        + b"\x25" + bytes(4)  # 4: 32-bit
        + b"\x2b" + wire.encode_int(1, 7) + b"\x2c"  # 5: group
    )  # fmt: skip
    found = parse(data)
    assert [f.number for f in found] == [1, 2, 3, 4, 5]
    kinds = [wire.VARINT, wire.FIXED64, wire.BYTES, wire.FIXED32, wire.GROUP]
    assert [f.wire_type for f in found] == kinds
    assert found[0].value == 300
    assert data[found[2].start : found[2].end] == b"abc"
    assert data[found[4].start : found[4].end] == wire.encode_int(1, 7)
    assert [f.next for f in found] == [*(f.offset for f in found[1:]), len(data)]


@pytest.mark.parametrize(
    ("data", "offset", "message"),
    [
        (b"\x08", 1, "ends inside a varint"),
        (b"\x08\x80\x80", 1, "ends inside a varint"),
        (b"\x08" + b"\x80" * 10 + b"\x01", 1, "longer than 10 bytes"),
        (b"\x08" + b"\xff" * 9 + b"\x02", 1, "does not fit 64 bits"),
        (b"\x00\x00", 0, "field number 0"),
        (wire.encode_varint(1 << 32) + b"\x00", 0, "field number 536870912"),
        (b"\x0e", 0, "wire type 6"),
        (b"\x0f", 0, "wire type 7"),
        (b"\x0a\x05abcd", 0, "claims 5 bytes, its message has 4 left"),
        (b"\x0a" + wire.encode_varint(2**63), 0, "claims 9223372036854775808 bytes"),
        (b"\x0d\x00\x00\x00", 0, "claims 4 bytes, its message has 3 left"),
        (b"\x09\x00", 0, "claims 8 bytes"),
        (b"\x08\x01\x0c", 2, "closed but was not opened"),
        (b"\x0b\x08\x01", 0, "never closed"),
        (b"\x0b\x14", 1, "closed by the tag of group 2"),
        (b"\x0b" * 101 + b"\x0c" * 101, 100, "nested over 100 deep"),
        (b"\x0b" * 1_000_000, 100, "nested over 100 deep"),
    ],
)
def test_broken_bytes_are_named(data: bytes, offset: int, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        parse(data)
    assert caught.value.offset == offset


def test_groups_may_nest_to_the_limit() -> None:
    data = b"\x0b" * wire.MAX_NESTING + b"\x0c" * wire.MAX_NESTING
    assert [f.next for f in parse(data)] == [len(data)]


def test_a_field_may_not_run_past_its_parent() -> None:
    inner = b"\x0a\x04ab"  # claims four bytes where two are left, though the file has more
    data = wire.encode_bytes(1, inner) + b"xxxxxxxx"
    outer = wire.read_field(memoryview(data), 0, len(data), wire.Budget())
    with pytest.raises(FormatError, match="its message has 2 left"):
        list(wire.fields(memoryview(data), outer.start, outer.end))


def test_packed_varints() -> None:
    values = [0, 1, 127, 128, 2**63]
    data = b"".join(map(wire.encode_varint, values))
    assert list(wire.packed_varints(memoryview(data), 0, len(data))) == values
    with pytest.raises(FormatError, match="ends inside"):
        list(wire.packed_varints(memoryview(data), 0, len(data) - 1))


def test_expect_names_both_kinds() -> None:
    field = parse(b"\x08\x01")[0]
    wire.expect(field, wire.VARINT, "num")
    with pytest.raises(FormatError, match=r"field 1 \(num\) is varint, expected length-delimited"):
        wire.expect(field, wire.BYTES, "num")


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_by_offset(data: bytes) -> None:
    refused_at = None
    found = []
    try:
        found = parse(data)
    except FormatError as error:
        refused_at = error.offset
    if refused_at is None:
        assert sum(f.next - f.offset for f in found) == len(data)
    else:
        assert 0 <= refused_at <= len(data)
