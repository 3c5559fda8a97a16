"""Caffe's own run on shapes_voc, continued from its snapshot at step 1,200.

The whole of it is in docs/continued_run.md; here are its first steps. Caffe's solver state is not
bundled.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe_port.live import mode
from caffe_port.solver.progress import TrainingStep
from caffe_port.solver.training import Training
from tests.goldens_dir import FULL_SHAPES, SHAPES

STEPS = 10


class Losses:
    """A watcher that remembers losses and rates."""

    def __init__(self) -> None:
        self.steps: list[TrainingStep] = []

    def step(self, step: TrainingStep) -> None:
        self.steps.append(step)

    def outputs(self, what: str, iteration: int, values: dict[str, float]) -> None:
        """Not of interest."""

    def saved(self) -> None:
        """Not of interest."""


def rates_of_caffe() -> dict[int, float]:
    log = (SHAPES / "caffe_run" / "train.log").read_text()
    found = re.findall(r"Iteration (\d+), lr = (\S+)", log)
    return {int(iteration): float(rate) for iteration, rate in found}


def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: Losses) -> Training:
    """Caffe's training in a folder of its own, from its seed."""
    monkeypatch.setattr(mode._process, "random", None)
    run = SHAPES / "caffe_run"
    text = (run / "train.prototxt").read_text().replace("${ROOT}", str(SHAPES))
    (tmp_path / "train.prototxt").write_text(text)
    shutil.copy(run / "solver.prototxt", tmp_path)
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    return Training("solver.prototxt", watchers=[watcher])


def test_from_scratch_the_first_loss_is_caffes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It depends on all fillers, the shuffle, crops and flips of the batch, and dropout."""
    log = (SHAPES / "caffe_run" / "train.log").read_text()
    (caffes,) = re.findall(r"Iteration 0, loss = (\S+)", log)
    watcher = Losses()
    started(tmp_path, monkeypatch, watcher).step(1)
    assert caffes == "4.51928"
    assert watcher.steps[0].loss == pytest.approx(float(caffes), rel=2e-6)


@pytest.mark.skipif(FULL_SHAPES is None, reason="Caffe's solver state is not bundled")
def test_the_continued_run_is_as_good_as_caffes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FULL_SHAPES is not None
    watcher = Losses()
    training = started(tmp_path, monkeypatch, watcher)
    training.restore(FULL_SHAPES / "caffe_run" / "model" / "train_iter_1200.solverstate")
    assert "dropout restart, as in Caffe" in capsys.readouterr().err
    before = training.net.params["fc6"][0].data.copy()
    training.step(STEPS)
    assert [step.iteration for step in watcher.steps] == list(range(1200, 1200 + STEPS))
    assert watcher.steps[0].rate == pytest.approx(rates_of_caffe()[1200], rel=1e-6)
    # Caffe's mean of 20 losses was 0.105 at 1,200 and between 0.06 and 0.13 ever after 1,000
    assert 0.06 < watcher.steps[-1].loss < 0.14
    # with the histories of Adam that were saved, a step moves a weight by much less than the rate
    moved = np.abs(training.net.params["fc6"][0].data - before)
    assert 0 < moved.mean() < 0.3 * STEPS * watcher.steps[0].rate
