"""The lines of a training's log are where parsers of Caffe's logs look for them, by dialect."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import caffe_port.pycaffe as caffe
from caffe_port.cli.caffe import main
from caffe_port.proto.dialects import ENVIRONMENT
from caffe_port.solver.log import Place

NET = """name: "small"
layer { name: "d" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 }
    data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "f" type: "InnerProduct" bottom: "x" top: "f"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "f" top: "f" }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "y" top: "l" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.1 lr_policy: "multistep" gamma: 0.5 stepvalue: 2
max_iter: 3 display: 1 snapshot: 2 snapshot_prefix: "s" random_seed: 1 solver_mode: CPU
test_iter: 2 test_interval: 2 test_compute_loss: true clip_gradients: 0.01
"""
# the first words of what both programs and pycaffe log, and where: BVLC 1.0, DeepLab v1, v2
LINES = {
    "Initializing solver": ("solver.cpp:44", "solver.cpp:32", "solver.cpp:48"),
    "Creating training net from net file": ("solver.cpp:87", "solver.cpp:67", "solver.cpp:91"),
    "Creating test net (#0) specified by net file": (
        "solver.cpp:172",
        "solver.cpp:151",
        "solver.cpp:181",
    ),
    "Initializing net": ("net.cpp:51", "net.cpp:39", "net.cpp:49"),
    "r -> f (in-place)": ("net.cpp:367", "net.cpp:345", "net.cpp:397"),
    "l <- f": ("net.cpp:406", "net.cpp:394", "net.cpp:454"),
    "d -> x": ("net.cpp:380", "net.cpp:356", "net.cpp:411"),
    "Solver scaffolding done": ("solver.cpp:56", "solver.cpp:41", "solver.cpp:60"),
    "Solving small": ("solver.cpp:272", "solver.cpp:160", "solver.cpp:280"),
    "Iteration 0, Testing net (#0)": ("solver.cpp:330", "solver.cpp:264", "solver.cpp:338"),
    "Test loss: ": ("solver.cpp:384", "solver.cpp:303", "solver.cpp:393"),
    "    Test net output #0: l = ": ("solver.cpp:397", "solver.cpp:316", "solver.cpp:406"),
    "    Train net output #0: l = ": ("solver.cpp:237", "solver.cpp:224", "solver.cpp:245"),
    "Iteration 0, lr = 0.1": ("sgd_solver.cpp:105", "solver.cpp:447", "sgd_solver.cpp:106"),
    "MultiStep Status: ": ("sgd_solver.cpp:46", "solver.cpp:398", "sgd_solver.cpp:46"),
    "Gradient clipping": ("sgd_solver.cpp:92", "sgd_solver.cpp:92", "sgd_solver.cpp:92"),
    "Snapshotting to ": ("solver.cpp:447", "solver.cpp:336", "solver.cpp:456"),
    "Snapshotting solver state to ": ("sgd_solver.cpp:273", "solver.cpp:344", "sgd_solver.cpp:273"),
    "Iteration 3, loss = ": ("solver.cpp:310", "solver.cpp:246", "solver.cpp:318"),
    "Optimization Done.": ("solver.cpp:315", "solver.cpp:251", "solver.cpp:323"),
}
PROGRAM = {
    "Use CPU.": ("caffe.cpp:211", "caffe.cpp:106", "caffe.cpp:178"),
    "Starting Optimization": ("caffe.cpp:248", "caffe.cpp:110", "caffe.cpp:219"),
}
LOSS = (
    r"solver\.cpp:218\] Iteration (\d+) \([\d.e+-]+ iter/s, [\d.e+-]+s/1 iters\), loss = [\d.]+$",
    r"solver\.cpp:209\] Iteration (\d+), loss = [\d.]+$",
    r"solver\.cpp:229\] Iteration (\d+), loss = [\d.]+$",
)
DIALECTS = pytest.mark.parametrize("column", range(3), ids=["bvlc", "deeplab1", "deeplab2"])


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, ["bvlc", "deeplab1", "deeplab2"][column])
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)


def check(printed: str, column: int, lines: dict[str, tuple[str, str, str]]) -> None:
    said = [line.split(maxsplit=3)[3] for line in printed.splitlines() if "] " in line]
    for words, places in lines.items():
        assert any(line.startswith(f"{places[column]}] {words}") for line in said), words
    assert [m[1] for line in said if (m := re.fullmatch(LOSS[column], line))] == ["0", "1", "2"]


@DIALECTS
def test_caffe_train(log: None, column: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-solver=solver.prototxt", "-gpu=-1"]) == 0
    check(capfd.readouterr().err, column, {**PROGRAM, **LINES})


@DIALECTS
def test_pycaffes_solver(log: None, column: int, capfd: pytest.CaptureFixture[str]) -> None:
    solver = caffe.get_solver("solver.prototxt")
    solver.solve()
    printed = capfd.readouterr().err
    check(printed, column, LINES)
    solver.restore("s_iter_2.solverstate")
    assert "SGDSolver: restoring history" in capfd.readouterr().err
    main(["train", "-solver=solver.prototxt", "-gpu=-1"])
    program = [line for line in capfd.readouterr().err.splitlines() if "] " in line]
    theirs = [line.split("] ")[1] for line in program if " caffe.cpp:" not in line]
    mine = [line.split("] ")[1] for line in printed.splitlines() if "] " in line]
    speed = re.compile(r" \(.*iters\)")
    assert [speed.sub("", line) for line in mine] == [speed.sub("", line) for line in theirs]


@DIALECTS
def test_another_solver_than_the_root_logs_nothing(
    log: None, column: int, capfd: pytest.CaptureFixture[str]
) -> None:
    caffe.set_solver_rank(1)
    try:
        caffe.SGDSolver("solver.prototxt").step(1)
    finally:
        caffe.set_solver_rank(0)
    assert not capfd.readouterr().err


def test_the_speed_is_that_since_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.chdir(tmp_path)
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("caffe_port.solver.log.time", clock)
    (tmp_path / "net.prototxt").write_text(NET)
    text = SOLVER.replace("display: 1", "display: 2").replace("max_iter: 3", "max_iter: 9")
    (tmp_path / "solver.prototxt").write_text(text.replace("test_iter: 2 test_interval: 2", ""))
    solver = caffe.SGDSolver("solver.prototxt")

    def tick() -> None:
        now[0] += 0.5

    solver.add_callback(tick, tick)
    solver.step(5)
    speeds = re.findall(r"Iteration (\d) \((.*)\), loss", capfd.readouterr().err)
    assert speeds == [
        ("0", "0 iter/s, 0.5s/2 iters"), ("2", "1 iter/s, 2s/2 iters"),
        ("4", "1 iter/s, 2s/2 iters"),
    ]  # fmt: skip


def test_every_place_names_a_file_and_a_line() -> None:
    for place in Place:
        for where in (place.of("bvlc"), place.of("deeplab1"), place.of("deeplab2")):
            assert re.fullmatch(r"(solver|sgd_solver|net|caffe)\.cpp:[1-9]\d*", where)
    assert Place.LOSS.of("longjon") == Place.LOSS.of("bvlc")
