"""What fuzzing and the attacks found: each input ends in an error of ours."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_port.crf import DenseCRF
from caffe_port.data.hdf5 import read_datasets
from caffe_port.data.images import read_rgb
from caffe_port.data.mat import read_mat
from caffe_port.data.voc import voc_items
from caffe_port.data.window_file import read_windows
from caffe_port.errors import CaffePortError, FormatError, UsageError
from caffe_port.files import open_regular, read_bytes
from caffe_port.net import Net
from caffe_port.parity.recording import read_recording
from caffe_port.proto import caffe_pb2, parse_net, wire
from caffe_port.proto.binary import read_net_binary
from caffe_port.solver import nets as solver_nets
from caffe_port.solver.updates import learning_rate
from caffe_port.spec import NetSpec
from caffe_port.weights import read_mean, read_weights
from tests.attacks.images import MAT_HEAD, matrix
from tests.attacks.weights import blob, dims, layer
from tests.weights.making import field


def test_a_mean_image_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    for value in (1e300, math.nan, math.inf):
        path.write_bytes(dims(3, 1, 1) + field(8, np.full(3, value, "<f8").tobytes()))
        with pytest.raises(FormatError, match="NaN or beyond float32"):
            read_mean(path)


def test_costs_near_the_largest_float_do_not_overflow() -> None:
    costs = np.full((2, 2), 3e38, np.float32)
    crf = DenseCRF(2, 2, labels=2).add_gaussian(3, weight=costs)
    assert crf.kernel_count == 1


def test_names_too_long_for_the_system(tmp_path: Path) -> None:
    for length in (1000, 10_000):
        (tmp_path / "list.txt").write_text("a" * length + ".jpg\n")
        with pytest.raises(CaffePortError, match=r"missing|over 4096"):
            voc_items(tmp_path, tmp_path / "list.txt")


def test_a_mat_variable_without_values_and_with_long_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(MAT_HEAD + matrix((2**31 - 1, 2**31 - 1, 2**31 - 1, 0), b""))
    with pytest.raises(FormatError, match="shape"):
        read_mat(path)


@pytest.mark.parametrize("read", [read_bytes, read_rgb, read_weights, read_net_binary])
def test_pipes_and_folders_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises((CaffePortError, OSError)):
            read(tmp_path / name)


def test_a_file_that_is_regular_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with open_regular(tmp_path / "a") as stream:
        assert stream.read() == b"abc"
    with pytest.raises(OSError, match="3 bytes, expected at most 2"):
        read_bytes(tmp_path / "a", 2)


def test_fields_are_counted(tmp_path: Path) -> None:
    many = b"\x1a\x00" * (wire.MAX_FIELDS + 1)
    (tmp_path / "a").write_bytes(layer(many))
    with pytest.raises(FormatError, match=r"over \d+ fields"):
        read_weights(tmp_path / "a")
    (tmp_path / "b").write_bytes(layer(field(106, many)))
    with pytest.raises(FormatError, match=r"over \d+ fields"):
        read_net_binary(tmp_path / "b")


def test_a_layer_name_of_megabytes(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(field(100, field(1, b"n" * 10**6)) + blob())
    with pytest.raises(FormatError, match="a name of 1000000 bytes"):
        read_weights(tmp_path / "net.caffemodel")


def test_endless_text_is_refused_with_a_short_message() -> None:
    for text in ('name: "' + "a" * 10**6, 'name: "' + r"\n" * 10**6, "a" * 10**6, "x" * 99 + "!"):
        with pytest.raises(FormatError) as caught:
            parse_net(text)
        assert len(str(caught.value)) < 300
    with pytest.raises(FormatError, match="fields, too many"):
        parse_net("a: 1 " * 100_001)


NET = 'layer { name: "d" type: "Input" top: "d" input_param { shape { %s } } }'


def test_blobs_have_at_most_32_axes() -> None:
    NetSpec.build(parse_net(NET % ("dim: 1 " * 32)).message)
    with pytest.raises(CaffePortError, match="33 axes; Caffe allows 32"):
        NetSpec.build(parse_net(NET % ("dim: 1 " * 33)).message)


def test_parameters_beyond_all_memory() -> None:
    layers = "".join(
        f'layer {{ name: "{i}" type: "Parameter" top: "{i}" '
        "parameter_param { shape { dim: 2147483647 } } }" for i in range(2000)
    )  # fmt: skip
    with pytest.raises(CaffePortError, match=r"parameters take 17179\.9 GB"):
        Net(NetSpec.build(parse_net(layers).message))


@pytest.mark.parametrize(
    ("field", "value"), [("iter_size", 0), ("max_iter", -1), ("snapshot", -1), ("test_iter", [-1])]
)
def test_solvers_that_cannot_count(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{field} is"):
        solver_nets.read_param(caffe_pb2.SolverParameter(**{field: value}))


def test_rates_beyond_the_largest_number() -> None:
    param = caffe_pb2.SolverParameter(lr_policy="exp", base_lr=1, gamma=1e38)
    assert learning_rate(param, 100, 0)[0] == math.inf
    param = caffe_pb2.SolverParameter(lr_policy="sigmoid", base_lr=1, gamma=-1e5, stepsize=1)
    assert learning_rate(param, 10**6, 0)[0] == 0


@pytest.mark.parametrize(
    "head", [b"{'shape': (1", b"{'shape': (1L,), 'descr': '<f4', 'fortran_order': False}",
             b" \n  x", b"{b'descr': '<f4', 'shape': ()}", b"(" * 5000, b"[" * 90 + b"]" * 90]
)  # fmt: skip
def test_damaged_heads_of_arrays(tmp_path: Path, head: bytes) -> None:
    whole = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(4)
    with zipfile.ZipFile(tmp_path / "case.npz", "w") as archive:
        archive.writestr("data/x.npy", whole)
    (tmp_path / "case.json").write_text('{"phase": "TEST"}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(FormatError):
            assert read_recording(tmp_path).data["x"].shape == (1,)


def test_training_data_may_not_leave_its_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = h5py.ExternalLink("other.h5", "/data")
        file["inner/data"] = h5py.SoftLink("/data")
        file["own/data"] = np.zeros(3)
    for name in ("data", "inner/data"):
        with pytest.raises(CaffePortError, match="link, which is refused"):
            read_datasets(tmp_path / "a.h5", [name])
    assert read_datasets(tmp_path / "a.h5", ["own/data"])[0].shape == (3,)


def test_notes_of_images_are_not_warnings(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 256, 4, 9, 2**30) + bytes(9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CaffePortError):
            read_rgb(path)


@pytest.mark.parametrize("overlap", ["8" * 100, "3.4028236e38", "nan", "-inf", "x"])
def test_window_files_with_overlaps_beyond_float32(tmp_path: Path, overlap: str) -> None:
    (tmp_path / "a").write_text(f"# 0\na.jpg\n3\n10\n10\n2\n1 0.9 0 0 5 5\n0 {overlap} 2 2 8 8\n")
    with pytest.raises(CaffePortError, match=r"line 8: overlap is .*; expected a number"):
        read_windows(tmp_path / "a", "", 0.5, 0.5)


def test_a_ppm_of_comments_only(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 #" + b"x" * 10**6)
    with pytest.raises(CaffePortError, match="no header of a PPM"):
        read_rgb(tmp_path / "a.ppm")
    (tmp_path / "b.ppm").write_bytes(b"P6 # made by hand\n2 1 255\nabcdef")
    assert read_rgb(tmp_path / "b.ppm").tolist() == [[[97, 98, 99], [100, 101, 102]]]
