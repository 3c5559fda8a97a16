"""The program ``caffe train`` itself: killed, signalled, and given bad images."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffe_port.cli.caffe import main
from caffe_port.live import mode
from caffe_port.weights import read_weights
from caffe_port.weights.solver_state import read_solver_state
from tests import preloaded
from tests.goldens_dir import SHAPES
from tests.solver.making import solver_file, training
from tests.waiting import LIMIT, wait_until

EVERY = 3  # steps between snapshots


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seed of another test."""
    monkeypatch.setattr(mode._process, "random", None)


def started(solver: Path, *flags: str) -> preloaded.Process:
    command = [sys.executable, "-W", "error", "-m", "caffe_port.cli.caffe", "train"]
    return preloaded.start([*command, f"-solver={solver}", *flags], stderr=subprocess.PIPE)


def step_of(state: Path) -> int:
    return int(state.name.partition("iter_")[2].partition(".")[0])


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("snap_iter_*.solverstate"), key=step_of)


def test_killed_at_random_moments_it_loses_only_the_steps_since_its_last_snapshot(
    tmp_path: Path,
) -> None:
    """kill -9, resumed, and again; at the end stand the numbers of a run nothing happened to."""
    solver = solver_file(tmp_path, f'type: "Adam" snapshot: {EVERY} max_iter: 1000000 display: 1 ')
    flags: list[str] = []
    for _ in range(2):
        known = len(states(tmp_path))
        with started(solver, *flags) as process:
            wait_until(lambda had=known: len(states(tmp_path)) > had + 3, process)
            time.sleep(random.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            log = process.communicate()[1]
        done = [int(step) for step in re.findall(r"Iteration (\d+)[^,]*, [^,]*, loss = ", log)]
        last = states(tmp_path)[-1]
        assert done[-1] - step_of(last) <= EVERY
        for state in states(tmp_path):
            stem = tmp_path / state.stem
            assert read_solver_state(state).iter == step_of(state)
            read_weights(stem.with_suffix(".caffemodel"))
            json.loads(stem.with_suffix(".runstate").read_text())
        flags = [f"-snapshot={last}"]
    end = step_of(last) + 4
    again = training(tmp_path, f'type: "Adam" display: 0 max_iter: {end} ')
    again.restore(last)
    again.solve()
    mine = read_weights(tmp_path / f"snap_iter_{end}.caffemodel").layers
    mine = [blob.data.copy() for layer in mine for blob in layer.blobs]
    mode._process.random = None
    training(tmp_path, f'type: "Adam" display: 0 max_iter: {end} ').solve()
    theirs = read_weights(tmp_path / f"snap_iter_{end}.caffemodel").layers
    for one, other in zip(mine, (b.data for x in theirs for b in x.blobs), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal here")
def test_a_hang_up_saves_and_ctrl_c_saves_and_stops(tmp_path: Path) -> None:
    solver = solver_file(tmp_path, "max_iter: 1000000 display: 0 ")
    with started(solver) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Learning Rate Policy" in line:
                break
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: states(tmp_path), process)
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 0
    assert "Optimization stopped early." in log
    assert "Optimization Done." in log
    first, last = states(tmp_path)
    assert 0 < step_of(first) < step_of(last)
    assert last.with_suffix(".runstate").exists()


SOLVER = (
    'train_net: "train.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 4 display: 0 '
    'snapshot_prefix: "snap" random_seed: 1 '
)
TRAIN = """
layer { name: "data" type: "ImageSegData" top: "data" top: "label"
  transform_param { mean_value: 100 crop_size: 40 mirror: true }
  image_data_param { root_folder: "ROOT" source: "list.txt" batch_size: 2 label_type: PIXEL } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training whose list names a missing image on line 3 and a cut one on line 5."""
    lines = (SHAPES / "train.txt").read_text().splitlines()[:6]
    image = (SHAPES / lines[4].split()[0].lstrip("/")).read_bytes()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(image[:-300])
    lines[2] = lines[2].replace("train_0002.jpg", "gone.jpg")
    lines[4] = f"{Path('/' + '../' * 40)}{cut} {lines[4].split()[1]}"
    (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "train.prototxt").write_text(TRAIN.replace("ROOT", str(SHAPES)))
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_missing_image_stops_the_run_with_its_name_and_line(
    faulty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-solver=solver.prototxt"]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("F")
    assert "list.txt: line 3: " in last
    assert "gone.jpg: cannot be read: No such file or directory" in last


def test_bad_images_are_skipped_on_request_and_counted(
    faulty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-solver=solver.prototxt", "-skip_bad_images"]) == 0
    log = capfd.readouterr().err.splitlines()
    skipped = [line for line in log if "Skipped: " in line]
    assert ["line 3" in skipped[0], "line 5" in skipped[1], len(skipped)] == [True, True, 2]
    assert all(line.startswith("W") for line in skipped)
    # of 6 lines 4 are good: the 4 batches of 2, and one read ahead, pass line 3 and 5 twice
    assert "2 bad images were skipped, 4 times in all." in log[-1]
    assert (faulty / "snap_iter_4.caffemodel").exists()
