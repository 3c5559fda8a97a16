"""Reading caffemodels of every generation and encoding."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.proto import caffe_pb2, wire
from caffe_port.weights import StoredBlob, WeightFile
from caffe_port.weights.caffemodel import read_caffemodel, read_mean
from caffe_port.weights.solver_state import read_solver_state
from tests.weights.making import (
    array,
    field,
    floats,
    message_blob,
    same_bits,
    shape,
    small_net,
    v1_file,
    v2_file,
)

SIX = [1.5, -0.0, 3.0, 4.0, float("inf"), 6.0]


def read(folder: Path, data: bytes) -> WeightFile:
    path = folder / "net.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


def read_blob(folder: Path, *parts: bytes) -> StoredBlob:
    return read(folder, v2_file(b"".join(parts))).layers[0].blobs[0]


def unpacked(number: int, values: list[float], kind: str) -> bytes:
    tag = bytes([number << 3 | (wire.FIXED32 if kind == "<f4" else wire.FIXED64)])
    return b"".join(tag + np.array(v, kind).tobytes() for v in values)


def test_v2_as_protobuf_wrote_it(tmp_path: Path) -> None:
    weights = read(tmp_path, small_net().SerializeToString())
    assert (weights.name, weights.generation, weights.format) == ("small", "V2", "caffemodel")
    assert [(x.name, x.type, len(x.blobs)) for x in weights.layers] == [
        ("conv", "Convolution", 2), ("relu", "ReLU", 0), ("ip", "InnerProduct", 1)
    ]  # fmt: skip
    conv, _, ip = weights.layers
    assert same_bits(conv.blobs[0].data, array(2, 3, 1, 1))
    assert same_bits(conv.blobs[1].data, array(2, seed=1))
    assert same_bits(ip.blobs[0].data, array(2, 2, dtype="f8"))
    assert not any(b.legacy or b.diff is not None for x in weights.layers for b in x.blobs)


def test_blobs_are_views_and_aligned_makes_a_copy(tmp_path: Path) -> None:
    blob = read_blob(tmp_path, shape(2, 3), floats(SIX))
    assert not blob.data.flags.owndata
    assert not blob.data.flags.writeable
    copy = blob.aligned()
    assert copy.flags.aligned
    assert copy.flags.writeable
    assert copy.flags.c_contiguous
    assert copy.dtype.isnative
    copy[0, 0] = 9
    assert blob.data[0, 0] == blob.aligned()[0, 0] == 1.5


def test_file_may_be_replaced_or_removed_while_a_blob_lives(tmp_path: Path) -> None:
    blob = read_blob(tmp_path, shape(6), floats(SIX))
    (tmp_path / "net.caffemodel").unlink()
    assert same_bits(blob.aligned(), np.array(SIX, "f4"))
    assert same_bits(blob.data, np.array(SIX, "f4"))


def test_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    blob = read_blob(tmp_path, shape(6), floats(SIX))
    os.truncate(tmp_path / "net.caffemodel", 30)
    with pytest.raises(FormatError, match="became shorter"):
        blob.aligned()


@pytest.mark.parametrize(
    "parts",
    [
        [floats(SIX)],
        [unpacked(5, SIX, "<f4")],
        [floats(SIX[:2]), floats(SIX[2:])],
        [floats(SIX[:2]), unpacked(5, SIX[2:5], "<f4"), floats(SIX[5:])],
        [unpacked(5, SIX[:1], "<f4"), floats([]), unpacked(5, SIX[1:], "<f4")],
        [unpacked(5, SIX[:3], "<f4"), wire.encode_int(10, 1), unpacked(5, SIX[3:], "<f4")],
        [unpacked(8, SIX, "<f8")],
        [field(8, np.array(SIX, "<f8").tobytes())],
        [floats([9.0]), field(8, np.array(SIX, "<f8").tobytes())],
    ],
    ids=["packed", "unpacked", "chunks", "mixed", "mixed2", "interrupted", "unpacked double",
         "double", "double wins"],
)  # fmt: skip
@pytest.mark.parametrize("shape_first", [True, False])
def test_every_encoding_of_values(tmp_path: Path, parts: list[bytes], shape_first: bool) -> None:
    values = b"".join(parts)
    blob = read_blob(tmp_path, *((shape(2, 3), values) if shape_first else (values, shape(2, 3))))
    kind = "f8" if blob.data.dtype == np.float64 else "f4"
    assert same_bits(blob.data, np.array(SIX, kind).reshape(2, 3))
    assert same_bits(blob.aligned(), np.array(SIX, kind).reshape(2, 3))
    assert kind == ("f8" if parts[-1][0] >> 3 == 8 else "f4")


def test_long_run_of_unpacked_values(tmp_path: Path) -> None:
    values = array(200_001)
    raw = np.empty(len(values), np.dtype([("tag", "u1"), ("value", "<f4")]))
    raw["tag"], raw["value"] = 5 << 3 | wire.FIXED32, values
    assert same_bits(read_blob(tmp_path, shape(200_001), raw.tobytes()).data, values)


def test_unpacked_dims_and_dims_in_two_shapes(tmp_path: Path) -> None:
    dims = wire.encode_int(1, 2) + wire.encode_int(1, 3)
    assert read_blob(tmp_path, field(7, dims), floats(SIX)).data.shape == (2, 3)
    assert read_blob(tmp_path, shape(2), shape(3), floats(SIX)).data.shape == (2, 3)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({1: 1, 2: 1, 3: 2, 4: 3}, (1, 1, 2, 3)), ({1: 2, 2: 3, 3: 1, 4: 1}, (2, 3, 1, 1))],
)
def test_legacy_shape_hides_the_new_one(
    tmp_path: Path, fields: dict[int, int], expected: tuple[int, ...]
) -> None:
    numbers = b"".join(wire.encode_int(k, v) for k, v in fields.items())
    for parts in ([numbers, floats(SIX)], [floats(SIX), shape(7, 7), numbers]):
        blob = read_blob(tmp_path, *parts)
        assert blob.legacy
        assert blob.data.shape == expected


def test_one_legacy_number_is_enough_to_hide_the_shape(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"shape \(6, 0, 0, 0\) needs 0 values, data holds 6"):
        read_blob(tmp_path, wire.encode_int(1, 6), shape(6), floats(SIX))


def test_scalar_and_empty_blobs(tmp_path: Path) -> None:
    assert read_blob(tmp_path, floats([2.5])).data.shape == ()
    empty = read_blob(tmp_path, shape(0, 3))
    assert empty.data.shape == empty.aligned().shape == (0, 3)


def test_diff_is_read_too(tmp_path: Path) -> None:
    message = message_blob(array(2, 3))
    message.diff.extend(SIX)
    blob = read_blob(tmp_path, message.SerializeToString())
    assert blob.diff is not None
    assert same_bits(blob.diff, np.array(SIX, "f4").reshape(2, 3))
    double = field(9, np.array(SIX, "<f8").tobytes())
    blob = read_blob(tmp_path, shape(6), floats(SIX), double)
    assert blob.diff is not None
    assert blob.diff.dtype == np.float64


def v1_layer(name: str, type: int, *rest: bytes) -> bytes:
    return field(4, name.encode()) + wire.encode_int(5, type) + b"".join(rest)


def test_v1(tmp_path: Path) -> None:
    numbers = b"".join(wire.encode_int(i, n) for i, n in enumerate((1, 1, 2, 3), start=1))
    blob = field(6, numbers + floats(SIX))
    weights = read(tmp_path, v1_file(v1_layer("fc", 14, blob), v1_layer("loss", 21)))
    assert weights.generation == "V1"
    assert [(x.name, x.type) for x in weights.layers] == [
        ("fc", "InnerProduct"), ("loss", "SoftmaxWithLoss")
    ]  # fmt: skip
    assert weights.layers[0].blobs[0].legacy


def test_v0(tmp_path: Path) -> None:
    inner = field(1, b"conv1") + field(2, b"conv") + field(50, shape(6) + floats(SIX))
    other = field(1, b"pad1") + field(2, b"padding")
    weights = read(tmp_path, v1_file(field(1, inner), field(1, other)))
    assert weights.generation == "V0"
    assert [(x.name, x.type) for x in weights.layers] == [
        ("conv1", "Convolution"), ("pad1", "padding")
    ]  # fmt: skip
    assert same_bits(weights.layers[0].blobs[0].data, np.array(SIX, "f4"))


BLOB = field(6, shape(6) + floats(SIX))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([v1_layer("x", 39, BLOB)], "Deconvolution"),
        ([v1_layer("x", 39, field(10, b""))], "Deconvolution"),
        ([v1_layer("x", 39, field(15, b""))], "ImageSegData"),
        ([v1_layer("x", 39), v1_layer("y", 41)], "ImageSegData"),
        ([v1_layer("x", 39), v1_layer("y", 4)], "V1:39"),
        ([v1_layer("x", 40)], "SegAccuracy"),
        ([v1_layer("x", 56)], "OneHot"),
        ([v1_layer("x", 57)], "V1:57"),
        ([v1_layer("x", 38)], "Exp"),
        ([v1_layer("x", 0)], ""),
        ([field(4, b"x")], ""),
    ],
)
def test_v1_types(tmp_path: Path, layers: list[bytes], expected: str) -> None:
    assert read(tmp_path, v1_file(*layers)).layers[0].type == expected


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    data = field(100, field(1, b"conv\xb0"))
    assert read(tmp_path, data).layers[0].name == "conv\\xb0"


def test_unknown_fields_are_skipped(tmp_path: Path) -> None:
    group = b"\x9b\x06" + wire.encode_int(1, 7) + b"\x9c\x06"  # field 99
    layer = group + field(1, b"conv") + field(143, b"\xff\xff") + wire.encode_int(1003, 1)
    assert read(tmp_path, group + field(100, layer)).layers[0].name == "conv"


def test_mean(tmp_path: Path) -> None:
    values = array(3, 4, 5)
    path = tmp_path / "mean.binaryproto"
    numbers = b"".join(wire.encode_int(i, n) for i, n in enumerate((1, 3, 4, 5), start=1))
    for head in (numbers, shape(3, 4, 5), shape(1, 3, 4, 5)):
        path.write_bytes(head + floats(values.ravel()))
        assert same_bits(read_mean(path), values)
    path.write_bytes(shape(60) + floats(values.ravel()))
    with pytest.raises(FormatError, match=r"a mean image is \(C, H, W\).*the blob is \(60,\)"):
        read_mean(path)
    path.write_bytes(small_net().SerializeToString())
    with pytest.raises(FormatError, match="num"):
        read_mean(path)


BLOB = shape(2) + floats([1.0, 2.0])
UNKNOWN = wire.encode_int(14, 7) + field(20, b"more")


def test_unknown_fields_of_blobs_are_named(tmp_path: Path) -> None:
    blobs = [BLOB, BLOB + UNKNOWN, BLOB + UNKNOWN]
    message = "layer 'conv', blob 1 (and of 1 more blobs): unknown BlobProto fields 14, 20; they"
    with pytest.warns(UnknownFieldWarning, match=re.escape(message)):
        weights = read(tmp_path, v2_file(*blobs))
    assert [blob.unknown for blob in weights.layers[0].blobs] == [(), (14, 20), (14, 20)]


@pytest.mark.filterwarnings("always::caffe_port.errors.UnknownFieldWarning")
def test_commands_that_leave_them_out_say_so(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(v2_file(BLOB + UNKNOWN))
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "conv" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }'
    )
    new = str(tmp_path / "new.caffemodel")
    for command in (
        ["convert", str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"), "-o", new],
        ["upgrade", str(tmp_path / "net.caffemodel"), new],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert "layer 'conv', blob 0: unknown BlobProto fields 14, 20" in result.stderr
        assert caffe_pb2.NetParameter.FromString(Path(new).read_bytes()).layer[0].blobs[0].data


def test_so_do_means_and_solver_states(tmp_path: Path) -> None:
    (tmp_path / "mean").write_bytes(shape(1, 1, 2) + floats([1.0, 2.0]) + UNKNOWN)
    with pytest.warns(UnknownFieldWarning, match="the mean image: unknown BlobProto fields 14, 20"):
        read_mean(tmp_path / "mean")
    (tmp_path / "x.solverstate").write_bytes(wire.encode_int(1, 5) + field(3, BLOB + UNKNOWN))
    with pytest.warns(UnknownFieldWarning, match="history 0: unknown BlobProto fields 14, 20"):
        assert read_solver_state(tmp_path / "x.solverstate").history[0].tolist() == [1, 2]
