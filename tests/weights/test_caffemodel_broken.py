"""Caffemodels that are cut, lie, or are something else: a FormatError each, and no memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffe_port.errors import FormatError
from caffe_port.proto import wire
from caffe_port.weights import blobproto, caffemodel, read_mean, read_weights
from caffe_port.weights.caffemodel import read_caffemodel
from tests.weights.making import (
    field,
    floats,
    same_bits,
    shape,
    small_net,
    v1_file,
    v2_file,
)

pytestmark = pytest.mark.filterwarnings("ignore::caffe_port.errors.UnknownFieldWarning")
OFTEN = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def refuse(folder: Path, data: bytes, match: str | None = None) -> FormatError:
    path = folder / "net.caffemodel"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=match) as caught:
        read_caffemodel(path)
    assert caught.value.path == str(path)
    return caught.value


def test_every_truncation(tmp_path: Path) -> None:
    """Protobuf cannot tell a file cut between two top-level fields from a whole one."""
    data = small_net().SerializeToString()
    path = tmp_path / "cut.caffemodel"
    found = list(wire.fields(memoryview(data)))
    whole = {f.next: i for i, f in enumerate(found) if f.number == 100}
    assert len(whole) == 3
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size in whole:
            kept = read_caffemodel(path).layers
            assert [x.name for x in kept] == ["conv", "relu", "ip"][: whole[size]]
        else:
            with pytest.raises(FormatError):
                read_caffemodel(path)


@pytest.mark.parametrize("generation", ["V1", "V0"])
def test_every_truncation_of_older_files(tmp_path: Path, generation: str) -> None:
    blob = shape(2, 3) + floats(range(6))
    if generation == "V1":
        layer = field(4, b"conv") + wire.encode_int(5, 4) + field(6, blob)
    else:
        layer = field(1, field(1, b"conv") + field(2, b"conv") + field(50, blob))
    data = v1_file(layer)
    for size in range(len(data)):
        refuse(tmp_path, data[:size])


def test_every_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    data = bytearray(small_net().SerializeToString())
    path = tmp_path / "changed.caffemodel"
    offsets: list[int | None] = []
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            data[at] ^= flip
            path.write_bytes(data)
            data[at] ^= flip
            try:
                layers = read_caffemodel(path).layers
            except FormatError as error:
                offsets.append(error.offset)
            else:
                assert sum(b.data.nbytes for x in layers for b in x.blobs) <= len(data)
    assert len(offsets) > len(data) / 4
    assert all(0 <= offset <= len(data) for offset in offsets if offset is not None)


@OFTEN
@given(data=st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    for read in (read_caffemodel, read_mean, read_weights):
        named = str(path)
        try:
            read(path)
        except FormatError as error:
            named = error.path or ""
        assert named == str(path)


@OFTEN
@given(data=st.data())
def test_random_blobs(tmp_path: Path, data: st.DataObject) -> None:
    """Fields a BlobProto has, with values that need not agree."""
    int64 = st.integers(-(2**63), 2**63 - 1)
    small = st.integers(-1, 4)
    part = st.one_of(
        st.builds(wire.encode_int, st.integers(1, 4), small | int64),
        st.builds(lambda dims: shape(*dims), st.lists(small | int64, max_size=5)),
        st.builds(field, st.sampled_from([5, 6, 8, 9]), st.binary(max_size=48)),
        st.builds(lambda n, b: bytes([n << 3 | 5]) + b, st.sampled_from([5, 6]),
                  st.binary(min_size=4, max_size=4)),
    )  # fmt: skip
    blob = b"".join(data.draw(st.lists(part, max_size=6)))
    path = tmp_path / "random"
    path.write_bytes(v2_file(blob))
    try:
        stored = read_caffemodel(path).layers[0].blobs[0]
    except FormatError:
        return
    assert stored.data.nbytes <= len(blob)
    assert same_bits(stored.aligned(), np.array(stored.data))


@pytest.mark.parametrize(
    ("blob", "match"),
    [
        (shape(2, 3) + floats(range(5)), r"shape \(2, 3\) needs 6 values, data holds 5"),
        (shape(2, 3), "needs 6 values, data holds 0"),
        (b"", r"shape \(\) needs 1 values, data holds 0"),
        (shape(2**40) + floats(range(5)), "beyond Caffe's"),
        (shape(2**30) + floats(range(5)), "needs 1073741824 values, data holds 5"),
        (shape(2**63 - 1) + floats(range(5)), "beyond Caffe's"),
        (shape(2**63) + floats(range(5)), "negative dimension"),
        (shape(2**32, 2**32), "beyond Caffe's"),  # 2^64, which is 0 in 64 bits
        (shape(2**32, 2**31, 2) + floats([1]), "beyond Caffe's"),
        (shape(2**31, 2**31, 0), "beyond Caffe's"),
        (shape(-1, -6) + floats(range(6)), "negative dimension"),
        (wire.encode_int(1, -1) + floats(range(5)), "negative dimension"),
        (shape(*[1] * 33) + floats([1]), "over 32 axes"),
        (shape(6) + field(5, bytes(23)), "23 bytes long, not a multiple of 4"),
        (shape(6) + field(8, bytes(44)), "44 bytes long, not a multiple of 8"),
        (shape(6) + floats(range(6)) + field(6, bytes(20)), "diff holds 5"),
        (shape(6) + b"\x2a" + wire.encode_varint(2**42), "claims 4398046511104 bytes"),
        (shape(6) + wire.encode_int(5, 6), r"field 5 \(data\) is varint"),
        (field(7, field(1, b"\x80")) + floats([1]), "ends inside a varint"),
        (field(7, b"\x0d\x00\x00\x00\x00") + floats([1]), r"field 1 \(dim\) is 32-bit"),
        (field(1, b"x"), r"field 1 \(num\) is length-delimited"),
    ],
)
def test_lying_blobs(tmp_path: Path, blob: bytes, match: str) -> None:
    tracemalloc.start()
    try:
        error = refuse(tmp_path, v2_file(blob), match)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert "layer 'conv', blob 0" in str(error)
    assert error.offset is not None


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (field(100, b"") + field(2, b""), "both 'layer'"),
        (field(2, b"") + field(100, b""), "both 'layer'"),
        (field(1, b"net"), "holds no layers"),
        (wire.encode_int(1, 2400), "solver state .* or a mean file"),
        (wire.encode_int(100, 1), r"field 100 \(layer\) is varint"),
        (wire.encode_int(2, 1), r"field 2 \(layers\) is varint"),
        (field(100, wire.encode_int(1, 1)), r"field 1 \(name\) is varint"),
        (field(100, wire.encode_int(2, 1)), r"field 2 \(type\) is varint"),
        (field(100, wire.encode_int(7, 1)), r"field 7 \(blobs\) is varint"),
        (field(2, field(5, b"CONVOLUTION")), r"field 5 \(type\) is length-delimited"),
        (field(2, wire.encode_int(1, 1)), r"field 1 \(layer\) is varint"),
        (field(100, b"\x0a\x7fabc"), "its message has 3 left"),
        (field(100, b"\x3a\x05\x2a\x7f\x00\x00\x00"), "its message has 3 left"),
    ],
)
def test_broken_nets(tmp_path: Path, data: bytes, match: str) -> None:
    refuse(tmp_path, data, match)


def test_more_objects_than_memory_should_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caffemodel, "MAX_LAYERS", 3)
    monkeypatch.setattr(caffemodel, "MAX_BLOBS", 3)
    monkeypatch.setattr(blobproto, "MAX_PIECES", 3)
    refuse(tmp_path, field(100, b"") * 4, "over 3 layers")
    refuse(tmp_path, v2_file(*[floats([1])] * 4), "over 3 blobs")
    refuse(tmp_path, v2_file(shape(4) + floats([1]) * 4), "over 3 pieces")
    (tmp_path / "fits").write_bytes(v2_file(*[floats([1])] * 2, shape(3) + floats([1]) * 3))
    assert len(read_caffemodel(tmp_path / "fits").layers[0].blobs) == 3


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "file is empty"),
        (b'name: "net"\nlayer { name: "conv" }\n', "seems to be text, perhaps a prototxt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\n<html></html>", "a web page"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x93NUMPY\x01\x00", "numpy"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, match: str) -> None:
    refuse(tmp_path, data, match)


def test_hdf5_is_recognized(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("data")
    refuse(tmp_path, (tmp_path / "x.h5").read_bytes(), "seems to be an HDF5 file")


def test_folders_pipes_and_missing_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        for read in (read_caffemodel, read_weights, read_mean):
            with pytest.raises(FormatError, match="not a regular file"):
                read(path)
    for read in (read_caffemodel, read_weights, read_mean):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.caffemodel")
