"""DeepLab's MATLAB files: axes, doubles, damage."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from caffe_port.data.mat import listed_names, mat_shape, read_mat, write_mat
from caffe_port.errors import DataError, FormatError

BLOB = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x_blob_0.mat"


def test_the_axes_are_reversed(path):
    write_mat(path, BLOB)
    data = loadmat(path)["data"]
    assert data.dtype == np.float32
    assert data.shape == (4, 3, 2, 1)
    assert data[3, 2, 1, 0] == BLOB[0, 1, 2, 3]
    assert mat_shape(path) == BLOB.shape
    back = read_mat(path)
    assert back.flags.owndata or back.base.flags.owndata
    assert np.array_equal(back, BLOB)


@pytest.mark.parametrize(("shape", "wanted"), [((), (1,) * 4), ((3,), (3, 1, 1, 1)),
                                               ((2, 3), (2, 3, 1, 1))])  # fmt: skip
def test_missing_axes_are_1(path, shape, wanted):
    values = np.random.default_rng(0).random(shape, np.float32)
    write_mat(path, values)
    assert read_mat(path).shape == wanted
    assert np.array_equal(read_mat(path).ravel(), values.ravel())


def test_files_of_others(path):
    savemat(path, {"diff": np.ones(2), "data": np.arange(6.0).reshape(3, 2)}, do_compression=True)
    assert read_mat(path).tolist() == [[[[0, 2, 4], [1, 3, 5]]]]
    assert read_mat(path).dtype == np.float32


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"other": np.ones(3)}, "no variable 'data'"),
        ({"data": np.ones(3, np.int32)}, "expected single"),
        ({"data": "text"}, "expected single"),
        ({"data": np.ones((1, 1, 1, 1, 2))}, "up to 4 axes"),
        ({"data": np.ones(3) * 1j}, "expected single"),
        ({"data": {"a": 1}}, "expected single"),
    ],
)
def test_other_variables_are_refused(path, variables, message):
    savemat(path, variables)
    with pytest.raises(FormatError, match=message):
        read_mat(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("compressed", [False, True])
def test_scipys_variables(path, dtype, compressed):
    """Small values, whose tags hold them, and others before the one asked for."""
    for shape in ((1, 1), (0, 3), (2, 3), (5, 4, 3), (7, 6, 5, 4)):
        values = np.random.default_rng(1).random(shape).astype(dtype)
        others = {"a" * 31: np.ones((300, 2)), "b": "text", "c": np.ones(1, np.uint8)}
        savemat(path, {**others, "data": values}, do_compression=compressed)
        assert mat_shape(path) == (1,) * (4 - len(shape)) + shape[::-1]
        assert np.array_equal(read_mat(path).ravel(), values.T.astype(np.float32).ravel())


def test_big_endian_and_integers_in_a_double(path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    matrix = (
        element(6, struct.pack(">II", 6, 0))
        + element(5, struct.pack(">ii", 2, 3))
        + struct.pack(">HH", 4, 1) + b"data"
        + element(2, bytes([1, 2, 3, 4, 5, 250]))
    )  # fmt: skip
    header = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    path.write_bytes(header + element(14, matrix))
    assert read_mat(path).tolist() == [[[[1, 2], [3, 4], [5, 250]]]]


def test_a_claim_of_terabytes_allocates_nothing(path):
    for compressed in (False, True):
        savemat(path, {"data": np.ones((7, 5))}, do_compression=compressed)
        whole = path.read_bytes()
        lie = struct.pack("<ii", 2**31 - 1, 2**10)
        if compressed:
            inner = zlib.decompress(whole[136:]).replace(struct.pack("<ii", 7, 5), lie)
            packed = zlib.compress(inner)
            path.write_bytes(whole[:128] + struct.pack("<II", 15, len(packed)) + packed)
        else:
            path.write_bytes(whole.replace(struct.pack("<ii", 7, 5), lie))
        with pytest.raises(FormatError, match=r"of shape \(2147483647, 1024\); expected at most"):
            read_mat(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_refused(path, compressed):
    savemat(path, {"data": BLOB.T}, do_compression=compressed)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_mat(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_damaged_byte_is_read_or_refused(path, compressed, flip):
    savemat(path, {"data": BLOB.T}, do_compression=compressed)
    whole = bytearray(path.read_bytes())
    for place in range(len(whole)):
        damaged = whole.copy()
        damaged[place] ^= flip
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError):
            assert read_mat(path).ndim == 4


def test_a_missing_file(path):
    with pytest.raises(DataError, match="cannot be read"):
        read_mat(path)


def test_lists_of_names(tmp_path):
    source = tmp_path / "list.txt"
    source.write_text("/a/one.jpg /b/one.png\ntwo.jpg\n")
    assert listed_names(str(source), 4) == ["/a/one", "two"]
    source.write_text("one.jpg\n\n")
    with pytest.raises(ValueError, match=r"line 2: strip 4 leaves no name"):
        listed_names(str(source), 4)
    with pytest.raises(ValueError, match="cannot be read"):
        listed_names(str(tmp_path / "none.txt"), 0)
