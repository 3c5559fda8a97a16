"""Blobs whose values are raw bytes, as NVCaffe and OpenCV store them.

Source of the field numbers: NVIDIA/caffe caffe.proto (0.16 and 0.17), BlobProto and Type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe_port
from caffe_port.errors import FormatError
from caffe_port.inspection import inspect_file
from caffe_port.proto import caffe_pb2, wire
from caffe_port.pycaffe import io
from caffe_port.weights import read_mean, read_weights, write_weights
from caffe_port.weights.solver_state import read_solver_state
from tests.goldens_dir import SHAPES
from tests.weights.making import field, floats, same_bits, shape, v2_file

RECORDING = SHAPES / "caffe_run" / "recording"
TYPES = {"<f8": 0, "<f4": 1, "<f2": 2}
# 2**-24 is float16's smallest subnormal, 65504 its largest value
VALUES = [0.5, -1.25, 2.0**-24, 65504.0, -0.0, float("inf")]
KINDS = pytest.mark.parametrize("dtype", TYPES)


def raw(values: list[float], dtype: str, diff: bool = False) -> bytes:
    payload = np.array(values, dtype).tobytes()
    return wire.encode_int(11 if diff else 10, TYPES[dtype]) + field(13 if diff else 12, payload)


def wide(values: list[float], dtype: str) -> Any:
    return np.array(values, "f8" if dtype == "<f8" else "f4")


def read_blob(folder: Path, *parts: bytes) -> Any:
    path = folder / "nv.caffemodel"
    path.write_bytes(v2_file(b"".join(parts)))
    return read_weights(path).layers[0].blobs[0]


@KINDS
def test_each_type_of_value(tmp_path: Path, dtype: str) -> None:
    blob = read_blob(tmp_path, shape(2, 3), raw(VALUES, dtype))
    assert same_bits(blob.data, wide(VALUES, dtype).reshape(2, 3))
    assert same_bits(blob.aligned(), wide(VALUES, dtype).reshape(2, 3))
    assert blob.aligned().flags.writeable
    assert blob.half == (dtype == "<f2")
    listing = inspect_file(tmp_path / "nv.caffemodel")
    assert listing.rows[0][4] == {"<f8": "float64", "<f4": "float32", "<f2": "float16"}[dtype]


@KINDS
def test_diffs_scalars_legacy_shapes_and_empty_blobs(tmp_path: Path, dtype: str) -> None:
    blob = read_blob(tmp_path, shape(6), raw(VALUES, dtype), raw([1, 2, 3, 4, 5, 6], "<f2", True))
    assert same_bits(blob.diff, np.array([1, 2, 3, 4, 5, 6], "f4"))
    assert read_blob(tmp_path, raw([3.0], dtype)).data.shape == ()
    numbers = b"".join(wire.encode_int(i, n) for i, n in enumerate((1, 1, 2, 3), start=1))
    blob = read_blob(tmp_path, numbers, raw(VALUES, dtype))
    assert blob.legacy
    assert blob.data.shape == (1, 1, 2, 3)
    assert read_blob(tmp_path, shape(0, 3), raw([], dtype)).data.shape == (0, 3)


def test_lists_win_over_raw_bytes_as_in_nvcaffe(tmp_path: Path) -> None:
    both = floats([1.0, 2.0]) + raw([8.0, 9.0], "<f2")
    assert same_bits(read_blob(tmp_path, shape(2), both).data, np.array([1, 2], "f4"))
    double = field(8, np.array([3.0, 4.0], "<f8").tobytes())
    assert same_bits(read_blob(tmp_path, shape(2), both, double).data, np.array([3, 4], "f8"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (field(12, bytes(8)), "raw_data without raw_data_type"),
        (wire.encode_int(10, 3) + field(12, bytes(8)), r"raw_data_type is 3; expected 0 \(double"),
        (wire.encode_int(10, -1) + field(12, bytes(8)), "raw_data_type is -1"),
        (wire.encode_int(10, 2) + field(12, bytes(5)), "raw_data is 5 bytes long, not a mult"),
        (wire.encode_int(10, 1) + field(12, bytes(4)), r"needs 2 values, raw_data holds 1"),
        (field(10, b"x"), r"field 10 \(raw_data_type\) is length-delimited"),
        (wire.encode_int(12, 1), r"field 12 \(raw_data\) is varint"),
        (floats([1, 2]) + field(13, bytes(4)), "raw_diff without raw_diff_type"),
    ],
)
def test_broken_ones(tmp_path: Path, parts: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_blob(tmp_path, shape(2), parts)
    assert caught.value.offset is not None
    assert "layer 'conv', blob 0" in str(caught.value)


@KINDS
def test_a_net_runs_on_them_and_writes_caffes_own_lists(tmp_path: Path, dtype: str) -> None:
    net = 'input: "x" input_shape { dim: 1 dim: 1 dim: 3 dim: 3 } layer { name: "conv" type: '
    net += '"Convolution" bottom: "x" top: "y" convolution_param { num_output: 2 kernel_size: 2 } }'
    (tmp_path / "net.prototxt").write_text(net)
    weight, bias = np.arange(8) / 4, np.array([0.5, -1.0])
    blobs = [
        shape(2, 1, 2, 2) + raw(weight.tolist(), dtype),
        shape(2) + raw(bias.tolist(), dtype),
    ]
    (tmp_path / "nv.caffemodel").write_bytes(v2_file(*blobs))
    built = caffe_port.load(tmp_path / "net.prototxt", tmp_path / "nv.caffemodel")
    x = np.arange(9, dtype="f4").reshape(1, 1, 3, 3)
    window = x[0, 0, 0:2, 0:2].ravel()
    found = built({"x": x})["y"].detach().numpy()[0, :, 0, 0]
    np.testing.assert_array_equal(found, weight.reshape(2, 4) @ window + bias)
    write_weights(tmp_path / "again.caffemodel", read_weights(tmp_path / "nv.caffemodel").layers)
    message = caffe_pb2.NetParameter.FromString((tmp_path / "again.caffemodel").read_bytes())
    for blob in message.layer[0].blobs:
        assert not blob.HasField("raw_data")
        assert (len(blob.double_data) > 0) == (dtype == "<f8")
    assert io.blobproto_to_array(message.layer[0].blobs[0]).ravel().tolist() == weight.tolist()


@KINDS
def test_means_and_solver_histories(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(shape(1, 3, 1, 2) + raw([1, 2, 3, 4, 5, 6], dtype))
    assert read_mean(path).ravel().tolist() == [1, 2, 3, 4, 5, 6]
    # NVCaffe's states also have minimum_loss (5) and iter_last_event (6)
    path = tmp_path / "x.solverstate"
    extra = wire.encode_varint(5 << 3 | wire.FIXED32) + np.float32(1e38).tobytes()
    history = field(3, shape(2) + raw([0.25, -8.0], dtype))
    path.write_bytes(wire.encode_int(1, 7) + history + extra + wire.encode_int(6, 3))
    state = read_solver_state(path)
    assert state.iter == 7
    assert same_bits(state.history[0], wide([0.25, -8.0], dtype))


@KINDS
def test_scripts_that_parse_messages_get_them(dtype: str) -> None:
    blob = caffe_pb2.BlobProto.FromString(
        shape(2, 3) + raw(VALUES, dtype) + raw(VALUES, dtype, True)
    )
    assert blob.raw_data_type == TYPES[dtype] == caffe_pb2.Type.Value(
        {"<f8": "DOUBLE", "<f4": "FLOAT", "<f2": "FLOAT16"}[dtype]
    )  # fmt: skip
    for diff in (False, True):
        found = io.blobproto_to_array(blob, return_diff=diff)
        assert found.tolist() == np.array(VALUES, dtype).astype("f8").reshape(2, 3).tolist()


def test_scripts_get_an_error_for_a_type_without_values() -> None:
    with pytest.raises(ValueError, match="raw_data_type is INT; expected one of DOUBLE, FLOAT"):
        io.blobproto_to_array(caffe_pb2.BlobProto(raw_data=bytes(4), raw_data_type=3))


def test_a_model_that_opencv_shrank(tmp_path: Path) -> None:
    cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if not hasattr(cv2.dnn, "shrinkCaffeModel"):
        pytest.skip("this OpenCV cannot shrink a caffemodel")
    small = tmp_path / "small.caffemodel"
    cv2.dnn.shrinkCaffeModel(str(RECORDING / "net.caffemodel"), str(small))
    halves = 0
    for original, shrunk in zip(
        read_weights(RECORDING / "net.caffemodel").layers, read_weights(small).layers, strict=True
    ):
        assert original.name == shrunk.name
        for wanted, found in zip(original.blobs, shrunk.blobs, strict=True):
            assert found.data.shape == wanted.data.shape
            np.testing.assert_array_equal(found.data, wanted.data.astype("f2").astype("f4"))
            halves += found.half
    assert halves >= 32
