"""A training as the program runs it: what it logs, tests, saves, and what signals do to it."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.solver import log
from caffe_port.solver.progress import Requests, TrainingStep
from caffe_port.solver.training import StoppedEarlyError
from caffe_port.weights import read_weights
from tests.solver.making import NET, said, training

STDERR = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a seed nor a log level of another test."""
    monkeypatch.setattr(log, "_level", [])
    monkeypatch.setattr(mode._process, "random", None)


class Noting:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: list[TrainingStep] = []
        self.tests: list[tuple[str, int, dict[str, float]]] = []
        self.saves = 0

    def step(self, step: TrainingStep) -> None:
        self.steps.append(step)

    def outputs(self, what: str, iteration: int, values: dict[str, float]) -> None:
        self.tests.append((what, iteration, dict(values)))

    def saved(self) -> None:
        self.saves += 1


TESTED = "test_iter: 2 test_interval: 3 "


def iterations(messages: list[str], word: str) -> list[int]:
    return [int(m.split()[1].rstrip(",")) for m in messages if word in m]


@pytest.mark.parametrize(
    ("more", "expected"), [("", [0, 3, 6]), ("test_initialization: false", [3, 6])]
)
def test_tests_when_they_are_due(
    tmp_path: Path, capsys: STDERR, more: str, expected: list[int]
) -> None:
    training(tmp_path, TESTED + more).solve()
    messages = said(capsys.readouterr().err)
    assert iterations(messages, "Testing net (#0)") == expected
    assert sum(m.startswith("    Test net output #0: loss = ") for m in messages) == len(expected)


def test_test_loss_is_logged_where_it_is_wanted(tmp_path: Path, capsys: STDERR) -> None:
    training(tmp_path, TESTED + "test_compute_loss: true").solve()
    assert sum(m.startswith("Test loss: ") for m in said(capsys.readouterr().err)) == 3


def test_a_test_of_no_batches_says_nothing(tmp_path: Path, capsys: STDERR) -> None:
    training(tmp_path, "test_iter: 0 test_interval: 3 test_compute_loss: true ").solve()
    messages = said(capsys.readouterr().err)
    assert iterations(messages, "Testing net (#0)") == [0, 3, 6]
    assert not [message for message in messages if "est loss" in message or "Test net" in message]


def test_the_steps_of_multistep_are_logged(tmp_path: Path, capsys: STDERR) -> None:
    rate = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 3 display: 4 '
    training(tmp_path, rate).solve()
    messages = said(capsys.readouterr().err, "sgd_solver.cpp")
    assert messages[:4] == [
        "Iteration 0, lr = 0.1",
        "MultiStep Status: Iteration 2, step = 1",
        "MultiStep Status: Iteration 3, step = 2",
        "Iteration 4, lr = 0.001",
    ]


@pytest.mark.parametrize(
    ("display", "expected"), [(0, []), (1, [*range(7)]), (3, [0, 3, 6]), (4, [0, 4])]
)
def test_displays_when_due(
    tmp_path: Path, capsys: STDERR, display: int, expected: list[int]
) -> None:
    training(tmp_path, f"display: {display} ").solve()
    messages = said(capsys.readouterr().err)
    assert iterations(messages, ", loss = ") == expected
    assert iterations(messages, ", lr = ") == [i for i in expected if i < 6]


@pytest.mark.parametrize(
    ("more", "stems"),
    [("snapshot: 4 ", ["4", "6"]), ("snapshot: 3 ", ["3", "6"]), ("", ["6"]),
     ("snapshot: 4 snapshot_after_train: false ", ["4"]), ("snapshot_after_train: false ", [])],
)  # fmt: skip
@pytest.mark.parametrize("format", ["", "snapshot_format: HDF5 "])
def test_saves_under_upstreams_names(
    tmp_path: Path, more: str, stems: list[str], format: str
) -> None:
    training(tmp_path, more + format).solve()
    suffix = ".h5" if format else ""
    names = {f"snap_iter_{stem}.{kind}{suffix}" for stem in stems
             for kind in ("caffemodel", "solverstate")}  # fmt: skip
    names |= {f"snap_iter_{stem}.runstate" for stem in stems}
    assert {path.name for path in tmp_path.glob("snap*")} == names


@pytest.mark.parametrize("format", ["", "snapshot_format: HDF5 "])
def test_a_resumed_run_equals_the_unbroken_one(tmp_path: Path, capsys: STDERR, format: str) -> None:
    more = 'snapshot: 3 average_loss: 4 iter_size: 2 type: "Adam" momentum: 0.8 ' + TESTED + format
    training(tmp_path, more).solve()
    log_of_all = said(capsys.readouterr().err)
    suffix = ".h5" if format else ""
    model = tmp_path / f"snap_iter_6.caffemodel{suffix}"
    before = read_weights(model).layers
    model.unlink()
    again = training(tmp_path, more)
    again.restore(tmp_path / f"snap_iter_3.solverstate{suffix}")
    again.solve()
    for old, new in zip(before, read_weights(model).layers, strict=True):
        for one, other in zip(old.blobs, new.blobs, strict=True):
            np.testing.assert_array_equal(one.data, other.data)
    rest = said(capsys.readouterr().err)
    rest = rest[rest.index("Learning Rate Policy: fixed") + 1 :]
    assert rest == log_of_all[log_of_all.index("Iteration 3, Testing net (#0)") :]


def test_resuming_as_caffe_does_draws_again(tmp_path: Path) -> None:
    more = "snapshot: 3 "
    training(tmp_path, more).solve()
    model = tmp_path / "snap_iter_6.caffemodel"
    before = read_weights(model).layers[1].blobs[0].data.copy()
    again = training(tmp_path, more, keeps_run_state=False)
    again.restore(tmp_path / "snap_iter_3.solverstate")
    again.solve()
    assert not np.array_equal(before, read_weights(model).layers[1].blobs[0].data)


def test_the_mean_of_the_loss_restarts_with_every_step_call(tmp_path: Path) -> None:
    watcher = Noting()
    solver = training(tmp_path, "average_loss: 10 ", watchers=[watcher])
    losses: list[float] = []
    solver.add_callback(lambda: None, lambda: losses.append(float(solver.net.blobs["loss"].data)))
    solver.step(2)
    solver.step(2)
    assert [s.loss for s in watcher.steps] == pytest.approx(
        [losses[0], np.mean(losses[:2]), losses[2], np.mean(losses[2:])]
    )
    assert [s.iteration for s in watcher.steps] == [0, 1, 2, 3]


def test_watchers_are_notified(tmp_path: Path) -> None:
    watcher = Noting()
    training(tmp_path, TESTED + "snapshot: 2 ", watchers=[watcher]).solve()
    assert [s.rate for s in watcher.steps] == pytest.approx([0.1] * 6)
    assert [i for what, i, _ in watcher.tests if what == "test"] == [0, 3, 6]
    assert [i for what, i, _ in watcher.tests if what == "train"] == [*range(6)]
    assert watcher.saves == 3


def test_several_test_nets_are_distinguished(tmp_path: Path, capsys: STDERR) -> None:
    watcher = Noting()
    more = "test_iter: 1 test_iter: 2 test_interval: 6 "
    training(tmp_path, more, watchers=[watcher]).solve()
    messages = said(capsys.readouterr().err)
    assert iterations(messages, "Testing net (#1)") == [0, 6]
    assert [what for what, i, _ in watcher.tests if i == 6] == ["test 0", "test 1"]


def test_without_a_seed_one_is_drawn_that_repeats_the_run(tmp_path: Path, capsys: STDERR) -> None:
    first = training(tmp_path, "random_seed: -1 ")
    drawn = capsys.readouterr().err.partition("drawn: ")[2].partition(".")[0]
    second = training(tmp_path, f"random_seed: {drawn} ")
    first.step(0)
    np.testing.assert_array_equal(first.net.params["ip"][0].data, second.net.params["ip"][0].data)


def test_dropout_from_torch_repeats_too(tmp_path: Path, capsys: STDERR) -> None:
    def weights(**options: object) -> np.ndarray:
        solver = training(tmp_path, **options)
        solver.step(3)
        return solver.net.params["ip"][0].data.copy()

    first, again = weights(torch_dropout=True), weights(torch_dropout=True)
    np.testing.assert_array_equal(first, again)
    assert "Dropout masks come from torch's generator" in capsys.readouterr().err
    assert not np.array_equal(first, weights())


def test_a_full_disk_is_reported_and_leaves_the_last_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = training(tmp_path, "snapshot: 2 ")
    solver.step(2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("snap*")}

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        solver.step(2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if "snap" in p.name} == before


STAGED = NET + 'layer { name: "s" type: "Silence" bottom: "ip" include { stage: "seen" } }\n'
LEVELLED = NET + 'layer { name: "s" type: "Silence" bottom: "ip" include { min_level: 2 } }\n'


@pytest.mark.parametrize(
    ("net", "options", "there"),
    [(STAGED, {}, False), (STAGED, {"stages": ["other", "seen"]}, True),
     (LEVELLED, {"level": 1}, False), (LEVELLED, {"level": 2}, True)],
)  # fmt: skip
def test_level_and_stages(
    tmp_path: Path, net: str, options: dict[str, object], there: bool
) -> None:
    assert ("s" in training(tmp_path, net=net, **options).net.layer_dict) is there


def test_debug_info_at_displays(tmp_path: Path, capsys: STDERR) -> None:
    solver = training(tmp_path, "debug_info: true display: 2 base_lr: 0 ")
    capsys.readouterr()
    solver.step(2)
    lines = said(capsys.readouterr().err, "net.cpp")
    weights = solver.net.params["ip"][0]
    mean = np.abs(weights.data).mean()
    assert f"    [Forward] Layer ip, param blob w data: {mean:g}" in lines
    assert sum("[Forward] Layer in, top blob x data: " in line for line in lines) == 1
    assert any(
        line.startswith("    [Backward] Layer loss, bottom blob ip diff: ") for line in lines
    )
    assert any(line.startswith("    [Backward] Layer ip, param blob 1 diff: ") for line in lines)
    assert any("All net params (data, diff): L1 norm = (" in line for line in lines)
    assert f"    [Update] Layer ip, param w data: {mean:g}; diff: 0" in lines


def signalling(solver: object, at: int, number: signal.Signals) -> None:
    """Sends this process a signal within the step after ``at`` updates."""

    def send() -> None:
        if solver.iter == at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    solver.add_callback(send, lambda: None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("number", "effect", "stems", "stopped"),
    [(signal.SIGINT, "stop", ["3"], True), (signal.SIGHUP, "snapshot", ["3", "6"], False),
     (signal.SIGINT, "none", ["6"], False)],
)  # fmt: skip
def test_signals(
    tmp_path: Path, capsys: STDERR, number: signal.Signals, effect: str, stems: list[str],
    stopped: bool,
) -> None:  # fmt: skip
    requests = Requests(effect, effect)
    solver = training(tmp_path, requests=requests)
    signalling(solver, 2, number)
    with requests.listening():
        solver.solve()
    assert solver.stopped is stopped
    assert sorted(p.name for p in tmp_path.glob("*.caffemodel")) == [
        f"snap_iter_{stem}.caffemodel" for stem in stems
    ]
    last = said(capsys.readouterr().err)[-1]
    assert last == ("Optimization stopped early." if stopped else "Optimization Done.")


def test_a_stop_at_a_snapshot_saves_once(tmp_path: Path) -> None:
    requests, watcher = Requests(), Noting()
    solver = training(tmp_path, "snapshot: 3 ", requests=requests, watchers=[watcher])
    signalling(solver, 2, signal.SIGINT)
    with requests.listening():
        solver.solve()
    assert (solver.iter, watcher.saves) == (3, 1)


def test_a_stop_while_testing(tmp_path: Path, capsys: STDERR) -> None:
    requests = Requests()
    solver = training(tmp_path, TESTED + "snapshot_after_train: false ", requests=requests)
    with requests.listening():
        os.kill(os.getpid(), signal.SIGINT)
        solver.solve()
    assert said(capsys.readouterr().err)[-2:] == [
        "Test interrupted.",
        "Optimization stopped early.",
    ]
    assert solver.iter == 0


def test_step_says_that_it_was_stopped(tmp_path: Path) -> None:
    requests = Requests()
    solver = training(tmp_path, requests=requests)
    with requests.listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StoppedEarlyError):
            solver.step(5)
    assert solver.iter == 1


def test_afterwards_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Requests().listening() as requests:
        assert signal.getsignal(signal.SIGINT) is not before
        assert requests.take() == "none"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_unknown_effect_is_refused() -> None:
    with pytest.raises(UsageError, match="signal effect is 'explode'"):
        Requests("explode")
