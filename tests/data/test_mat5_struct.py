"""A numeric field of a struct, as SBD keeps its label maps; damaged files are named."""

import contextlib
import io
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.sparse import csc_matrix

from caffe_port.data.mat5 import read_field
from caffe_port.errors import FormatError

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def sbd(labels, **more):
    """A struct with the fields SBD's has: cells of sparse boundaries, the labels, the classes."""
    boundaries = np.empty((3, 1), object)
    boundaries[0, 0], boundaries[1, 0] = np.eye(3), np.zeros((0, 0))
    boundaries[2, 0] = csc_matrix(np.eye(5) > 0)
    return {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": [1.0], **more}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.mat"


def field(path):
    return read_field(path, "GTcls", "Segmentation")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, np.uint32, np.int64])
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 3), (2, 3, 4), (375, 500)])
def test_scipys_structs(path, compressed, dtype, shape):
    values = np.random.default_rng(0).integers(0, 21, shape).astype(dtype)
    others = {"a": np.ones((400, 3)), "b": "text", "c": {"Segmentation": np.ones(2)}}
    savemat(path, {**others, "GTcls": sbd(values)}, do_compression=compressed)
    found = field(path)
    assert found.shape == shape
    assert np.array_equal(found, values)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"GTinst": sbd(LABELS)}, "no variable 'GTcls'"),
        ({"GTcls": LABELS}, r"'GTcls' is of class 9; expected a struct"),
        ({"GTcls": {"Other": LABELS}}, "no field 'Segmentation'; its fields: Other"),
        ({"GTcls": sbd(LABELS * 1j)}, "Segmentation is of class 6; expected real numbers"),
        ({"GTcls": sbd("text")}, "Segmentation is of class 4; expected real numbers"),
        ({"GTcls": sbd({"deeper": 1})}, "Segmentation is of class 2; expected real numbers"),
        ({"GTcls": np.zeros(2, [("Segmentation", object)])}, "a struct of one element"),
    ],
)
def test_other_variables_are_refused(path, variables, message):
    savemat(path, variables)
    with pytest.raises(FormatError, match=message):
        field(path)


def test_a_missing_file_is_the_systems_error(path):
    with pytest.raises(FileNotFoundError):
        field(path)


def element(kind, data, order=">"):
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, name, rest, order=">"):
    flags = element(6, struct.pack(order + "II", kind, 0), order)
    dims = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, flags + dims + element(1, name, order) + rest, order)


def whole(body, order=">"):
    mark = b"IM" if order == "<" else b"MI"
    return bytes(124) + struct.pack(order + "H", 256) + mark + body


def in_struct(inner, order=">", length=13, names=b"Segmentation\0"):
    table = element(5, struct.pack(order + "i", length), order) + element(1, names, order)
    return whole(matrix(2, (1, 1), b"GTcls", table + inner, order), order)


@pytest.mark.parametrize("order", [">", "<"])
def test_either_order_of_bytes(path, order):
    values = element(2 if order == "<" else 4, LABELS.astype(order + "u2").tobytes("F"), order)
    if order == "<":
        values = element(4, LABELS.astype("<u2").tobytes("F"), order)
    path.write_bytes(in_struct(matrix(11, LABELS.shape, b"", values, order), order))
    assert np.array_equal(field(path), LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (in_struct(element(14, b"")), "is empty; expected an array"),
        (in_struct(element(2, b"12345678")), "is empty; expected an array"),
        (in_struct(matrix(9, (3, 4), b"", element(2, bytes(11)))), "11 bytes of values"),
        (in_struct(matrix(9, (3, 4), b"", element(2, bytes(13)))), "13 bytes of values"),
        (in_struct(matrix(9, (2**30, 2**30), b"", element(2, bytes(8)))), "expected at most"),
        (in_struct(matrix(9, (-3, -4), b"", element(2, bytes(12)))), "no valid shape"),
        (in_struct(matrix(9, (2, 2), b"", element(16, bytes(4)))), "values of type 16"),
        (in_struct(matrix(9, (1, 1), b"", element(2, b"1")), length=0), "table of field names"),
        (in_struct(matrix(9, (1, 1), b"", element(2, b"1")), length=-8), "table of field names"),
        (in_struct(b"", length=13), "ends in a tag"),
        (in_struct(matrix(9, (1, 1), b"", element(2, b"1")), length=7), "table of field names"),
    ],
)
def test_damage_is_named(path, content, message):
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"^{re.escape(str(path))}: .*{message}"):
        field(path)


def compressed_file(data):
    return whole(struct.pack("<II", 15, len(data)) + data, "<")


@pytest.mark.parametrize(
    ("claim", "size", "message"),
    [(2**28, 2**20, "has 268435464 bytes; at most 134217728"), (2**16, 2**20, "expected 65544"),
     (2**20, 2**16, "expected 1048584")],
)  # fmt: skip
def test_a_bomb_is_not_unpacked(path, claim, size, message):
    """Zeros, which deflate a thousandfold: claims too large, too small, too large for the data."""
    good = in_struct(matrix(9, (1, 1), b"", element(2, b"1", "<"), "<"), "<")[128:]
    body = struct.pack("<II", 14, claim) + good[8:] + bytes(size)
    path.write_bytes(compressed_file(zlib.compress(body, 1)))
    with pytest.raises(FormatError, match=message):
        field(path)


def test_cut_or_changed_compressed_data_are_named(path):
    """Every cut, and every flipped byte of the data: zlib's sum finds what looks well formed."""
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": sbd(LABELS)}, do_compression=True)
    content = buffer.getvalue()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(FormatError):
            field(path)
    for at in range(136, len(content), 5):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        with pytest.raises(FormatError):
            field(path)


@given(st.data())
def test_no_bytes_crash_the_reader(tmp_path_factory, data):
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": sbd(LABELS)})
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(124, len(content) - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 5, 14, 127, 128, 255]))
    path = tmp_path_factory.getbasetemp() / "fuzzed.mat"
    path.write_bytes(content)
    with contextlib.suppress(FormatError):
        field(path)
