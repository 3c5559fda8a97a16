"""pycaffe's solvers: Caffe's recorded trajectories, steps by hand, tests, snapshots, callbacks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from caffe_port.errors import FormatError, UsageError, speaking
from caffe_port.live import mode
from caffe_port.proto import read_solver
from caffe_port.weights import read_weights
from caffe_port.weights.solver_state import SolverState, read_solver_state, write_solver_state
from tests.goldens_dir import cases
from tests.pycaffe.nets import SMALL, solver, write


@pytest.fixture(autouse=True)
def _unseeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "_process", mode._Process())


def feed(made: caffe.SGDSolver, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for net in (made.net, *made.test_nets):
        for name in net.inputs:
            net.blobs[name].data[...] = random.random(net.blobs[name].data.shape)


def weights(made: caffe.SGDSolver) -> list[np.ndarray]:
    return [blob.data.copy() for blob in made.net.params["ip"]]


class Recorded:
    """A case of the recordings: 24 steps by Caffe, with its snapshots."""

    def __init__(self, case: Path, tmp_path: Path) -> None:
        self.values = np.load(case / "case.npz")
        shutil.copytree(case, tmp_path / "case")
        self.folder = tmp_path / "case"
        text = (case / "solver.prototxt").read_text()
        text = text.replace('"snap"', f'"{tmp_path}/snap"')
        text = text.replace('"train.prototxt"', f'"{self.folder}/train.prototxt"')
        (self.folder / "solver.prototxt").write_text(text)

    def solver(self) -> caffe.SGDSolver:
        return caffe.get_solver(self.folder / "solver.prototxt")

    def step(self, made: caffe.SGDSolver, iteration: int) -> None:
        for name in "xt":
            made.net.blobs[name].data[...] = self.values[f"batch/{name}"][iteration % 4]
        made.step(1)

    def check(self, made: caffe.SGDSolver, iteration: int) -> None:
        for key in self.values.files:
            if key.startswith(f"w/{iteration}/"):
                _, _, layer, index = key.split("/")
                wanted = self.values[key]
                error = np.abs(made.net.params[layer][int(index)].data - wanted).max()
                assert error <= 2e-5 * np.abs(wanted).max(), f"{key} is off by {error:.1e}"


@pytest.mark.parametrize("case", cases("solvers"), ids=lambda case: case.name)
def test_recorded_trajectories(case: Path, tmp_path: Path) -> None:
    recorded = Recorded(case, tmp_path)
    made = recorded.solver()
    made.net.copy_from(recorded.folder / "init.caffemodel")
    for iteration in range(24):
        recorded.step(made, iteration)
        loss = float(made.net.blobs["loss"].data)
        assert loss == pytest.approx(float(recorded.values["loss"][iteration]), rel=1e-4)
        recorded.check(made, iteration + 1)
    for iteration in (12, 24):
        ours = read_solver_state(tmp_path / f"snap_iter_{iteration}.solverstate")
        theirs = read_solver_state(recorded.folder / f"snap_iter_{iteration}.solverstate")
        assert (ours.iter, ours.current_step) == (theirs.iter, theirs.current_step)
        for mine, caffes in zip(ours.history, theirs.history, strict=True):
            np.testing.assert_allclose(mine, caffes, atol=1e-4 * max(np.abs(caffes).max(), 1e-7))


@pytest.mark.parametrize("case", cases("solvers"), ids=lambda case: case.name)
def test_resuming_from_caffes_snapshot(case: Path, tmp_path: Path) -> None:
    recorded = Recorded(case, tmp_path)
    made = recorded.solver()
    made.restore(recorded.folder / "snap_iter_12.solverstate")
    assert made.iter == 12
    for iteration in range(12, 24):
        recorded.step(made, iteration)
    recorded.check(made, 24)


def test_a_step_by_hand(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path, "weight_decay: 0.5"))
    feed(made)
    weight, bias = weights(made)
    x, t = (made.net.blobs[name].data for name in "xt")
    difference = x @ weight.T + bias - t
    made.step(1)
    np.testing.assert_allclose(
        weights(made)[0], weight - 0.1 * (difference.T @ x / 4 + 0.5 * weight), rtol=1e-5
    )
    assert (made.iter, made.lr) == (1, pytest.approx(0.1))


def test_iter_size_averages_and_clipping_sees_the_sum(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path, "iter_size: 2"))
    feed(made)
    once = caffe.SGDSolver(solver(tmp_path))
    feed(once)
    for blob, same in zip(made.net.params["ip"], once.net.params["ip"], strict=True):
        blob.data[...] = same.data
    made.step(1)
    once.step(1)
    np.testing.assert_allclose(weights(made)[0], weights(once)[0], rtol=1e-6)


def test_apply_update_takes_the_diffs_as_they_are(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path))
    before = weights(made)[0]
    made.net.params["ip"][0].diff[...] = 1
    made.apply_update()
    np.testing.assert_allclose(weights(made)[0], before - 0.1, rtol=1e-5)
    assert made.iter == 1


def test_shared_parameters_are_updated_once(tmp_path: Path) -> None:
    text = SMALL.replace('bottom: "x" top: "ip"', 'bottom: "x" top: "ip" param { name: "w" }')
    text += """layer { name: "again" type: "InnerProduct" bottom: "x" top: "again"
      param { name: "w" lr_mult: 3 } inner_product_param { num_output: 2 bias_term: false } }
      layer { name: "quiet" type: "Silence" bottom: "again" }"""
    made = caffe.SGDSolver(solver(tmp_path, net=text))
    before = weights(made)[0]
    made.net.params["again"][0].diff[...] = 1
    made.apply_update()
    np.testing.assert_allclose(weights(made)[0], before - 3 * 0.1, rtol=1e-5)


def test_solve_logs_tests_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = caffe.SGDSolver(
        solver(tmp_path, "test_iter: 2 test_interval: 3 display: 2 snapshot: 4 average_loss: 2")
    )
    feed(made)
    made.solve()
    said = [line for line in capsys.readouterr().err.splitlines() if "] " in line]
    lines = [line.split("] ", 1)[1] for line in said]
    assert lines[0].startswith("Initializing solver from parameters:")
    lines = lines[lines.index("Solver scaffolding done.") + 1 :]
    assert lines[:3] == [
        "Solving small",
        "Learning Rate Policy: fixed",
        "Iteration 0, Testing net (#0)",
    ]
    heads = [line for line in lines if line.startswith("Iteration") and "loss" in line]
    assert [line.split()[1].strip(",") for line in heads] == ["0", "2", "4", "6"]
    assert sum(line.endswith("Testing net (#0)") for line in lines) == 3
    loss = float(made.test_nets[0].blobs["loss"].data)
    assert lines[-2] == f"    Test net output #0: loss = {loss:g} (* 1 = {loss:g} loss)"
    assert lines[-1] == "Optimization Done."
    saved = {path.name for path in tmp_path.glob("snap*")}
    assert saved == {
        f"snap_iter_{i}.{kind}" for i in (4, 6) for kind in ("caffemodel", "solverstate")
    }


@pytest.mark.parametrize("options", ["", "snapshot_format: HDF5"])
def test_resuming_equals_an_unbroken_run(tmp_path: Path, options: str) -> None:
    path = solver(tmp_path, f'type: "Adam" momentum: 0.9 snapshot: 3 {options}')
    made = caffe.get_solver(path)
    feed(made)
    made.solve()
    suffix = ".h5" if options else ""
    again = caffe.get_solver(path)
    feed(again)
    (tmp_path / "moved").mkdir()
    for kind in ("caffemodel", "solverstate"):
        shutil.move(tmp_path / f"snap_iter_3.{kind}{suffix}", tmp_path / "moved")
    again.solve(tmp_path / "moved" / f"snap_iter_3.solverstate{suffix}")
    assert again.iter == 6
    np.testing.assert_array_equal(weights(again)[0], weights(made)[0])


def test_snapshot_diff(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path, "snapshot_diff: true"))
    made.net.params["ip"][0].diff[...] = 3
    made.snapshot()
    stored = {
        layer.name: layer for layer in read_weights(tmp_path / "snap_iter_0.caffemodel").layers
    }
    np.testing.assert_array_equal(stored["ip"].blobs[0].diff, np.full((2, 3), 3))


def test_a_state_of_another_solver_is_refused(tmp_path: Path) -> None:
    caffe.SGDSolver(solver(tmp_path)).snapshot()
    made = caffe.AdamSolver(solver(tmp_path, "momentum: 0.9"))
    state = tmp_path / "snap_iter_0.solverstate"
    words = "2 histories for 2 parameters, as SGD or Nesterov or AdaGrad or RMSProp has; "
    words += "the solver's type is Adam, which has 4"
    with pytest.raises(UsageError, match=words) as caught:
        made.restore(state)
    assert str(caught.value).startswith(str(state))
    made.snapshot()
    with pytest.raises(UsageError, match="4 histories for 2 parameters, as AdaDelta or Adam has"):
        caffe.SGDSolver(solver(tmp_path)).restore(state)


def test_a_state_of_another_net_is_refused(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path))
    state, weight = tmp_path / "x.solverstate", np.zeros((2, 3), "f4")
    write_solver_state(state, SolverState(1, "", 0, (weight,) * 5))
    with pytest.raises(UsageError, match="5 histories, the solver has 2: the state of another net"):
        made.restore(state)
    write_solver_state(state, SolverState(1, "", 0, (weight, weight)))
    with pytest.raises(UsageError, match=r"history 1 is \(2, 3\), its parameter \(2,\): the state"):
        made.restore(state)


def test_weights_in_place_of_a_state(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path))
    made.snapshot()
    for suffix in ("", ".h5"):
        weights = tmp_path / f"snap_iter_0.caffemodel{suffix}"
        if suffix:
            made.net.save_hdf5(weights)
        with pytest.raises(FormatError, match="weights of 4 layers and no solver state") as caught:
            made.restore(weights)
        words = str(caught.value)
        if not suffix:
            assert f"resume from {tmp_path / 'snap_iter_0.solverstate'}, or start" in words
    with speaking("caffe"), pytest.raises(FormatError, match=r"training with -weights .*snap_iter"):
        made.restore(tmp_path / "snap_iter_0.caffemodel")


def test_callbacks(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path))
    calls: list[tuple[str, int]] = []
    made.add_callback(
        lambda: calls.append(("start", made.iter)), lambda: calls.append(("ready", made.iter))
    )
    made.step(2)
    assert calls == [("start", 0), ("ready", 0), ("start", 1), ("ready", 1)]


def test_the_seed_fixes_the_fillers(tmp_path: Path) -> None:
    path = solver(tmp_path, "random_seed: 5")
    one, two = weights(caffe.get_solver(path)), weights(caffe.get_solver(path))
    np.testing.assert_array_equal(one[0], two[0])
    assert np.abs(one[0]).max() > 0


def test_train_and_test_states(tmp_path: Path) -> None:
    text = (
        SMALL
        + """
      layer { name: "a" type: "Silence" bottom: "ip" include { stage: "a" } }
      layer { name: "b" type: "Silence" bottom: "ip" include { phase: TEST stage: "b" } }"""
    )
    made = caffe.SGDSolver(
        solver(
            tmp_path,
            'test_iter: 1 test_iter: 1 test_interval: 5 train_state { stage: "a" } '
            'test_state { stage: "b" } test_state { stage: "c" }',
            net=text,
        )
    )
    names = [net._layer_names for net in (made.net, *made.test_nets)]
    assert [("a" in found, "b" in found) for found in names] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    made.share_weights(made.test_nets[0])
    made.net.params["ip"][0].data[...] = 7
    assert made.test_nets[0].params["ip"][0].data[0, 0] == 7


def test_nets_inside_the_solver(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.prototxt",
        f'net_param {{ {SMALL} }} base_lr: 1 lr_policy: "fixed" test_iter: 1 test_interval: 2',
    )
    made = caffe.SGDSolver(path)
    assert made.param.snapshot_prefix == str(tmp_path / "s")
    assert len(made.test_nets) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('train_net: "a"', "found net, train_net"),
        ("test_iter: 1", "test_interval above 0"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", "2 test_state for 1"),
        ('test_net: "a" test_interval: 1', "0 test_iter for 1 test nets"),
        ('type: "LARS"', "'LARS' is not known"),
        ('type: "AdaGrad" momentum: 0.9', "takes no momentum"),
        ("average_loss: 0", "average_loss is 0"),
        ('snapshot: 1 snapshot_prefix: "/no/such/folder/x"', "'/no/such/folder' is missing"),
    ],
)
def test_refusals(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        caffe.get_solver(solver(tmp_path, options))


def test_a_folder_as_prefix(tmp_path: Path) -> None:
    made = caffe.SGDSolver(solver(tmp_path, f'snapshot_prefix: "{tmp_path}"'))
    assert made.param.snapshot_prefix == str(tmp_path / "solver")


def test_reading_the_rate_changes_nothing(tmp_path: Path) -> None:
    param = read_solver(solver(tmp_path, "gamma: 0.5"))
    param.lr_policy, param.stepvalue[:] = "multistep", [1, 2, 3]
    made = caffe.SGDSolver(param)
    made.iter = 5  # a late start, from which multistep advances once per iteration
    assert [made.lr, made.lr] == pytest.approx([0.05, 0.05])
    made.step(1)
    assert made.lr == pytest.approx(0.025)
    made.snapshot()
    assert read_solver_state(tmp_path / "snap_iter_6.solverstate").current_step == 1


@pytest.mark.parametrize("make", [caffe.SGDSolver, caffe.get_solver])
def test_a_message_makes_a_solver(tmp_path: Path, make: Callable[..., caffe.SGDSolver]) -> None:
    path = solver(tmp_path)
    message = read_solver(path)
    before = message.SerializeToString()
    made, same = make(message), make(path)
    for one in (made, same):
        one.net.copy_from(tmp_path / "w.caffemodel") if one is same else one.net.save(
            str(tmp_path / "w.caffemodel")
        )
        feed(one)
        one.step(2)
    np.testing.assert_array_equal(weights(made)[0], weights(same)[0])
    assert message.SerializeToString() == before


@pytest.mark.parametrize(("iter_size", "weight"), [(1, 0.1), (2, 0.2), (3, 0.7 / 3)])
def test_a_learned_blob_is_its_top(tmp_path: Path, iter_size: int, weight: float) -> None:
    """As recorded from Caffe 1.0: the diff of the last pass counts, divided by iter_size."""
    net = """
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }
layer { name: "r" type: "Power" bottom: "p" top: "r" loss_weight: 2 }"""
    made = caffe.get_solver(solver(tmp_path, f"iter_size: {iter_size}", net))
    made.net.params["p"][0].data[...] = 0.3
    made.step(1)
    for blob in (made.net.params["p"][0], made.net.blobs["p"]):
        np.testing.assert_allclose(blob.data, weight, rtol=1e-6)
        np.testing.assert_allclose(blob.diff, 0.1 * 2 / iter_size, rtol=1e-6)
