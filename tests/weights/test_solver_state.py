"""Solver states and mean files: Caffe's own read and written again, and broken ones refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_port.errors import FormatError, UsageError, speaking
from caffe_port.proto import caffe_pb2, wire
from caffe_port.weights import read_mean, read_weights, write_mean
from caffe_port.weights.solver_state import (
    SolverState,
    is_solver_state,
    read_solver_state,
    write_solver_state,
)
from tests.goldens_dir import FULL_GOLDENS, FULL_SHAPES, GOLDENS
from tests.weights.making import array

ROOT = FULL_GOLDENS or GOLDENS
BINARY = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("solvers/*/*.solverstate"))
HDF5 = GOLDENS / "io" / "hdf5" / "snap_iter_12.solverstate.h5"
ADAM = GOLDENS / "solvers" / "bvlc_adam" / "snap_iter_12.solverstate"


def same(first: SolverState, second: SolverState) -> bool:
    numbers = [(state.iter, state.current_step, state.learned_net) for state in (first, second)]
    return numbers[0] == numbers[1] and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(first.history, second.history, strict=True)
    )


def sample() -> SolverState:
    return SolverState(7, "x_iter_7.caffemodel", 2, (array(2, 3), array(4, dtype="f8")))


@pytest.mark.parametrize("case", BINARY)
def test_caffes_binary_states_come_back_byte_for_byte(tmp_path: Path, case: str) -> None:
    message = caffe_pb2.SolverState()
    message.ParseFromString((ROOT / case).read_bytes())
    state = read_solver_state(ROOT / case)
    assert (state.iter, state.current_step) == (message.iter, message.current_step)
    assert state.learned_net == message.learned_net
    for found, wanted in zip(state.history, message.history, strict=True):
        assert found.shape == tuple(wanted.shape.dim)
        assert found.ravel().tolist() == list(wanted.data)
    write_solver_state(tmp_path / "again.solverstate", state)
    assert (tmp_path / "again.solverstate").read_bytes() == (ROOT / case).read_bytes()


def test_there_are_cases() -> None:
    assert len(BINARY) >= 8


def test_caffes_hdf5_state_equals_its_binary_one(tmp_path: Path) -> None:
    state = read_solver_state(HDF5)
    binary = read_solver_state(ADAM)
    assert same(state, SolverState(12, "snap_iter_12.caffemodel.h5", 0, binary.history))
    again = tmp_path / "again.solverstate.h5"
    write_solver_state(again, state)
    assert same(read_solver_state(again), state)
    with h5py.File(HDF5, "r") as wanted, h5py.File(again, "r") as found:
        for name in ("iter", "learned_net", "current_step", "history/3"):
            assert found[name].id.get_type() == wanted[name].id.get_type(), name
            assert found[name].shape == wanted[name].shape


@pytest.mark.parametrize("suffix", [".solverstate", ".solverstate.h5"])
def test_round_trip_and_recognition(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_solver_state(path, sample())
    assert same(read_solver_state(path), sample())
    assert is_solver_state(path)
    empty = SolverState(0, "", 0, ())
    write_solver_state(path, empty)
    assert same(read_solver_state(path), empty)


def test_other_files_are_not_solver_states(tmp_path: Path) -> None:
    write_mean(tmp_path / "mean.binaryproto", array(3, 4, 5))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("data")
    model = ADAM.with_suffix(".caffemodel")
    for path in (tmp_path / "mean.binaryproto", tmp_path / "weights.h5", model):
        assert not is_solver_state(path)
        with pytest.raises(FormatError):
            read_solver_state(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (SolverState(-1, "", 0, ()), "beyond 32 bits"),
        (SolverState(2**31, "", 0, ()), "beyond 32 bits"),
        (SolverState(1, "a\0b", 0, ()), "zero byte"),
        (SolverState(1, "", 0, (np.zeros(3, np.int32),)), "int32"),
    ],
)
def test_refuses_to_write(tmp_path: Path, state: SolverState, message: str) -> None:
    for suffix in (".solverstate", ".h5"):
        with pytest.raises(UsageError, match=message):
            write_solver_state(tmp_path / f"x{suffix}", state)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"expected \.solverstate"):
        write_solver_state(tmp_path / "x.pt", sample())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wire.encode_bytes(2, b"x"), "no iteration"),
        (wire.encode_int(1, 2**31), "Caffe counts to"),
        (wire.encode_int(1, -1), "Caffe counts to"),
        (wire.encode_int(1, 1) + wire.encode_int(3, 1), "history"),
        (wire.encode_int(1, 1) + wire.encode_bytes(3, b"\x08"), "history 0: "),
        (wire.encode_int(1, 1) + wire.encode_bytes(4, b""), "expected varint"),
        (
            wire.encode_int(1, 1) + wire.encode_bytes(2, b"x" * 65537),
            "a learned_net of 65537 bytes",
        ),
        (b"", "empty"),
    ],
)
def test_refuses_broken_binary_states(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.solverstate"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_solver_state(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("source", [ADAM, HDF5], ids=["binary", "hdf5"])
def test_every_truncation_is_refused_or_a_shorter_state(tmp_path: Path, source: Path) -> None:
    whole = source.read_bytes()
    path = tmp_path / source.name
    refused = 0
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        try:
            assert len(read_solver_state(path).history) <= 8
        except FormatError:
            refused += 1
    assert refused > 50, "of 80 cuts and more"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("iter", None, "no 'iter'"),
        ("iter", np.zeros(2, np.int32), "expected one integer"),
        ("iter", np.float32(3), "expected one integer"),
        ("iter", np.array([-4]), "Caffe counts to"),
        ("learned_net", 3, "expected a short string"),
        ("learned_net", b"x" * 70000, "expected a short string"),
        ("history", 3, "is not a group"),
        ("history/9", np.zeros(3, "f4"), "lacks blobs"),
        ("history/x", np.zeros(3, "f4"), "is not named by a number"),
        ("history/0", np.zeros(3, "i4"), "expected float32"),
        ("iter", h5py.SoftLink("/current_step"), "soft or external link"),
        ("history/0", h5py.ExternalLink("other.h5", "/x"), "soft or external link"),
    ],
)
def test_refuses_hdf5_that_is_not_a_state(
    tmp_path: Path, name: str, value: object, message: str
) -> None:
    path = tmp_path / "x.solverstate.h5"
    write_solver_state(path, sample())
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = np.bytes_(value) if isinstance(value, bytes) else value
    with pytest.raises(FormatError, match=message):
        read_solver_state(path)


def test_refuses_values_kept_in_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x.solverstate.h5"
    write_solver_state(path, sample())
    (tmp_path / "secret").write_bytes(bytes(4))
    with h5py.File(path, "r+") as file:
        del file["iter"]
        file.create_dataset("iter", (1,), "<i4", external=[(str(tmp_path / "secret"), 0, 4)])
    with pytest.raises(FormatError, match="other files"):
        read_solver_state(path)


def test_mean_files(tmp_path: Path) -> None:
    mean, path = array(3, 4, 5), tmp_path / "mean.binaryproto"
    write_mean(path, mean)
    assert np.array_equal(read_mean(path), mean)
    message = caffe_pb2.BlobProto()
    message.ParseFromString(path.read_bytes())
    assert (message.num, message.channels, message.height, message.width) == (1, 3, 4, 5)
    for wrong in (array(4, 5), array(0, 4, 5), np.zeros((3, 4, 5), np.uint8)):
        with pytest.raises(UsageError, match=r"a mean image is \(C, H, W\)"):
            write_mean(path, wrong)


@pytest.mark.skipif(FULL_SHAPES is None, reason="the mean file is next to the full shapes_voc")
def test_caffes_mean_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    assert FULL_SHAPES is not None
    golden = FULL_SHAPES / "caffe_run" / "lmdb" / "mean.binaryproto"
    write_mean(tmp_path / "mean.binaryproto", read_mean(golden))
    assert (tmp_path / "mean.binaryproto").read_bytes() == golden.read_bytes()


@pytest.mark.parametrize("suffix", [".solverstate", ".solverstate.h5"])
def test_a_state_in_place_of_weights(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_solver_state(path, sample())
    with pytest.raises(FormatError, match=r"solver state.*solver\.restore"):
        read_weights(path)
    with speaking("caffe"), pytest.raises(FormatError, match=r"solver state.*-snapshot FILE"):
        read_weights(path)
    with speaking("caffe-port"), pytest.raises(FormatError, match="solver state") as caught:
        read_weights(path)
    assert "snapshot" not in str(caught.value)
