"""What a training must not lose: snapshots at a crash, on a full disk, or of another net."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from caffe_port import files
from caffe_port.cli.caffe import main
from caffe_port.errors import FormatError, UsageError
from caffe_port.live import mode
from caffe_port.solver import log
from caffe_port.weights import read_weights
from caffe_port.weights.solver_state import read_solver_state
from tests.solver.making import NET, solver_file, training

ADAM = 'type: "Adam" snapshot: 2 max_iter: 6 average_loss: 3 display: 0 '
RENAMES = 4  # of one snapshot: weights, side file, and the state, which is moved twice


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seed of another test."""
    monkeypatch.setattr(mode._process, "random", None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the snapshots of a run that nothing happened to."""
    mode._process.random = None
    folder = tmp_path_factory.mktemp("uninterrupted")
    training(folder, ADAM).solve()
    mode._process.random = None
    return folder


def values(path: Path) -> list[np.ndarray]:
    return [blob.data for layer in read_weights(path).layers for blob in layer.blobs]


def assert_equal_ends(mine: Path, theirs: Path) -> None:
    ours, others = (
        values(mine / "snap_iter_6.caffemodel"),
        values(theirs / "snap_iter_6.caffemodel"),
    )
    for one, other in zip(ours, others, strict=True):
        np.testing.assert_array_equal(one, other)


def last_state(folder: Path) -> Path | None:
    found = sorted(folder.glob("snap_iter_*.solverstate"), key=lambda path: int(path.stem[10:]))
    return found[-1] if found else None


class CrashError(BaseException):
    """What nothing in the program catches, as it does not catch kill -9."""


@contextmanager
def crash(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> Iterator[None]:
    """Stops the program at its ``number``-th renaming of a file, before or after it."""
    count, replace, unlink = 0, os.replace, Path.unlink

    def stop(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            raise CrashError
        replace(source, target)
        if count == number:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", stop)
        # a killed process tidies nothing up
        patch.setattr(Path, "unlink", lambda path, **options: None if count else unlink(path))
        with pytest.raises(CrashError):
            yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 3 * RENAMES + 1))
def test_a_crash_at_any_file_leaves_whole_snapshots(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    """Resumed from the last solver state, the run ends as the uninterrupted one did."""
    with crash(monkeypatch, number, after=after):
        training(tmp_path, ADAM).solve()
    for path in tmp_path.glob("snap*"):
        assert path.read_bytes() == (uninterrupted / path.name).read_bytes() or (
            path.suffix in (".solverstate", ".runstate")  # these name files by their paths
        )
    state = last_state(tmp_path)
    # the state is a snapshot's last file: no more is lost than the steps since the last one
    whole = (number - (not after)) // RENAMES
    assert (state is None) == (whole == 0)
    monkeypatch.setattr(mode._process, "random", None)
    again = training(tmp_path, ADAM)
    if state is not None:
        assert read_solver_state(state).iter == 2 * whole
        json.loads(state.with_suffix(".runstate").read_text())
        again.restore(state)
        assert again._resumed is not None
    again.solve()
    assert_equal_ends(tmp_path, uninterrupted)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can become larger: to the program, a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("size", [10, 3000])
def test_a_disk_that_fills_up(
    tmp_path: Path, size: int, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the weights, or in the side file: it is said, and the snapshot before stays usable."""
    more = f"{ADAM}snapshot_format: {format} "
    solver = training(tmp_path, more)
    solver.step(2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("snap*")}
    message = (
        "the snapshot of iteration 4 cannot be written: .*; there is one of iteration 2: .*snap"
    )
    with files_up_to(size), pytest.raises(OSError, match=message):
        solver.step(2)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if "snap" in path.name}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"snap_iter_4.caffemodel", "snap_iter_4.caffemodel.h5"}
    solver_file(tmp_path, more)
    state = next(tmp_path.glob("*.solverstate*"))
    with files_up_to(size):
        assert main(["train", f"-solver={tmp_path}/solver.prototxt", f"-snapshot={state}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("F")
    assert "the snapshot of iteration 4 cannot be written" in last
    assert main(["train", f"-solver={tmp_path}/solver.prototxt", f"-snapshot={state}"]) == 0


def test_a_full_disk_ends_the_log_file_but_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/null", "w", buffering=1) as good, files_up_to(0):
        full = (tmp_path / "log").open("w", buffering=1)
        monkeypatch.setattr(log, "_files", [full, good])
        log.log("first")
        assert log._files == [good]
        log.log("second")
        log._files.append(full)
        log.close_files()
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["first", "The log file cannot be written any more: File too large", "second"]


def resumed(folder: Path, net: str = NET, more: str = ADAM) -> None:
    training(folder, more, net).restore(folder / "snap_iter_4.solverstate")


@pytest.fixture
def saved(tmp_path: Path, uninterrupted: Path) -> Path:
    """A copy of the uninterrupted run, whose states name files in its folder."""
    for path in uninterrupted.glob("snap*"):
        shutil.copy(path, tmp_path)
        if path.suffix == ".solverstate":
            content = path.read_bytes()
            assert bytes(uninterrupted) in content
    return tmp_path


@pytest.mark.parametrize(
    ("net", "more", "message"),
    [
        (NET.replace("num_output: 2", "num_output: 3").replace("{ dim: 4 dim: 2 }",
                                                              "{ dim: 4 dim: 3 }"),
         ADAM, r"history 0 is \(2, 3\), its parameter \(3, 3\): the state of another net"),
        (NET, ADAM.replace("Adam", "SGD"),
         "4 histories for 2 parameters, as AdaDelta or Adam has; the solver's type is SGD"),
        (NET.replace('name: "ip" type', 'name: "fc" type').replace('param { name: "w" }', ""),
         ADAM, "lack parameters of this net: .*fc.*; they belong to another net"),
    ],
)  # fmt: skip
def test_a_state_of_another_net_or_solver_is_refused(
    saved: Path, net: str, more: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resumed(saved, net, more)


def test_weights_of_another_snapshot_are_refused(tmp_path: Path) -> None:
    """Names and shapes all fit; the side file knows which weights they were."""
    training(tmp_path, ADAM).solve()
    shutil.copy(tmp_path / "snap_iter_2.caffemodel", tmp_path / "snap_iter_4.caffemodel")
    with pytest.raises(UsageError, match=r"snap_iter_4\.caffemodel: not the weights that were"):
        resumed(tmp_path)
    solver = training(tmp_path, ADAM, keeps_run_state=False)
    solver.restore(tmp_path / "snap_iter_4.solverstate")
    assert solver.iter == 4


def test_missing_or_cut_weights_are_named(tmp_path: Path) -> None:
    training(tmp_path, ADAM).solve()
    model = tmp_path / "snap_iter_4.caffemodel"
    model.write_bytes(model.read_bytes()[:-7])
    with pytest.raises(FormatError, match=r"snap_iter_4\.caffemodel"):
        resumed(tmp_path)
    model.unlink()
    with pytest.raises((OSError, UsageError), match=r"snap_iter_4\.caffemodel"):
        resumed(tmp_path)
