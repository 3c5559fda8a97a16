"""One run of an experiment: a recipe trained with one seed, then scored; it may be interrupted.

RUN/settings.json                 what determines the result
RUN/*.prototxt, RUN/*.txt         nets, solver and lists, ready for ``caffe train``
RUN/train.log                     the log, as of ``caffe train``
RUN/snapshots/                    the latest snapshot; at the end the weights and the curve
RUN/evaluation/                   label maps of the validation images
RUN/result.json                   the figures; written last
RUN/result_N.json, evaluation_N/  the same of a run that paused after N updates
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.evaluation.network import score_blob
from caffe_port.files import never_through_link, open_file, reading
from caffe_port.finetuning.curve import Curve, CurveWatcher, Snapshots, read_json, write_json
from caffe_port.finetuning.inputs import RenderedRecipe
from caffe_port.finetuning.scoring import Control, StoppedError, Trial, score
from caffe_port.locks import try_lock
from caffe_port.proto import read_net_text
from caffe_port.solver.progress import Requests, TrainingStep
from caffe_port.spec import NetSpec
from caffe_port.weights import read_weights
from caffe_port.weights.matching import Match, match


def finished(trial: Trial) -> dict[str, Any] | None:
    """A finished run's figures, or None.

    Raises:
        UsageError: the folder belongs to another run.
        FormatError: its files are not those of a run.
    """
    if not trial.result.exists():
        return None
    _check_settings(trial.folder, _settings(trial))
    return read_json(trial.result)


def run(trial: Trial, control: Control) -> dict[str, Any]:
    """Trains and scores; resumes an interrupted run.

    Returns:
        The figures, which are in result.json then.
    Raises:
        StoppedError: ``control`` asked to stop.
        CaffePortError: the recipe, the weights or the data cannot be used.
    """
    trial.folder.mkdir(parents=True, exist_ok=True)
    with _locked(trial.folder, control), _threads(trial.setting.options.threads):
        done = finished(trial)
        if done is not None:
            return done
        settings = _settings(trial)
        _check_settings(trial.folder, settings)
        write_json(trial.folder / "settings.json", settings)
        started = time.perf_counter()
        weights, training = _trained(trial, control)
        trained = time.perf_counter()
        figures = {} if weights is None else _scored(trial, weights, settings, control)
        result = {
            "variant": trial.variant.name, "seed": trial.seed, **training, **figures,
            "seconds": {"training": round(trained - started, 2),
                        "scoring": round(time.perf_counter() - trained, 2)},
        }  # fmt: skip
        write_json(trial.result, result)
        if trial.updates is None:
            Snapshots(trial.folder / "snapshots").drop_states()
        return result


def _trained(trial: Trial, control: Control) -> tuple[Path | None, dict[str, Any]]:
    """The weights to score, or None if they cannot be scored, and remarks on them."""
    composed = RenderedRecipe(trial.variant, trial.setting.images, trial.setting.options)
    solver = composed.write(trial.folder, trial.seed or 0)
    _expect_classes(trial)
    if trial.seed is None:
        found = _match(trial, "test")
        unfit = [*found.missing, *(f"{name}, which the net lacks" for name in found.extra)]
        # weights of ImageNet, for example, have no layer of scores
        return None if unfit else trial.setting.init, {"unfit": unfit}
    snapshots = Snapshots(trial.folder / "snapshots")
    snapshots.folder.mkdir(exist_ok=True)
    end, reached = composed.solver.max_iter, snapshots.latest()
    last = end if trial.updates is None else min(trial.updates, end)
    if reached is not None and reached > last:
        snapshots.keep_only(-1)  # the weights after fewer updates are gone
        reached = None
    fillers = _match(trial, "train").missing
    if reached != last:
        file, opener = trial.folder / "train.log", never_through_link
        with open(file, "a", encoding="utf-8", opener=opener) as log, redirect_stderr(log):
            _train(trial, solver, snapshots, control, last)
    loss = Curve.read(snapshots.curve(last)).loss[-1][1]
    is_finite = math.isfinite(loss)
    return snapshots.weights(last) if is_finite else None, {
        "steps": last,
        "final_loss": loss if is_finite else None,
        "from_fillers": fillers,
    }


def _spec(trial: Trial, net: str) -> NetSpec:
    """The 'train' or 'test' net."""
    text = read_net_text(trial.folder / f"{net}.prototxt")
    return NetSpec.build(text.message, phase=net.upper(), dialect=text.dialect)


def _expect_classes(trial: Trial) -> None:
    """Raises UsageError for a net of another number of classes than the data set's."""
    if trial.setting.images.data is not None:
        spec = _spec(trial, "test")
        trial.setting.images.rules.expect_classes(spec.shapes[score_blob(spec)][1])


def _match(trial: Trial, net: str) -> Match:
    """Matches the initial weights with the 'train' or 'test' net.

    Raises:
        WeightMismatchError: some have another shape.
        UsageError: they have no layer of the net.
    """
    found = match(_spec(trial, net), read_weights(trial.setting.init).layers)
    found.check(strict=False)
    if not found.pairs:
        raise UsageError(f"{trial.setting.init}: the net of the recipe has none of its layers")
    return found


def _train(trial: Trial, solver: Path, snapshots: Snapshots, control: Control, last: int) -> None:
    """Makes updates up to ``last``, from the latest snapshot."""
    from caffe_port.solver.training import Training

    with _device(trial.setting.options.device):
        reached = snapshots.latest()
        curve = Curve() if reached is None else Curve.read(snapshots.curve(reached))
        progress = _ProgressWatcher(control, trial.title, last)
        watchers = (CurveWatcher(curve, snapshots), progress)
        training = Training(solver, requests=_Stop(control, progress), watchers=watchers)
        training.finetune(trial.setting.init)
        training.solve(None if reached is None else snapshots.state(reached))
        if training.stopped and not progress.pauses:
            raise StoppedError


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets the number of threads during a run."""
    import torch

    before, name = torch.get_num_threads(), "OMP_NUM_THREADS"
    limit = os.environ.get(name)
    if count is not None:
        torch.set_num_threads(count)
        os.environ[name] = str(count)  # the evaluation's limit
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if limit is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = limit


@contextmanager
def _device(name: str) -> Iterator[None]:
    from caffe_port.live import mode

    kind, _, number = name.partition(":")
    if kind == "cuda":
        mode.set_device(int(number or 0))
        mode.set_mode_gpu()
    try:
        yield
    finally:
        mode.set_mode_cpu()


class _Stop(Requests):
    """Stops a training when the control says so, or where it pauses."""

    def __init__(self, control: Control, progress: _ProgressWatcher) -> None:
        super().__init__("none", "none")
        self._control, self._progress = control, progress

    def take(self) -> str:
        return "stop" if self._progress.pauses or self._control.stopped() else "none"


class _ProgressWatcher:
    """A watcher that shows the progress of the training.

    Args:
        last: the updates after which the run ends or pauses.
    Attributes:
        pauses: whether it has made them, and the solver would continue.
    """

    def __init__(self, control: Control, title: str, last: int) -> None:
        self._control, self._what, self._last = control, title, last
        self.pauses = False

    def step(self, step: TrainingStep) -> None:
        done = step.iteration + 1
        self.pauses = self._last == done < step.last
        self._control.update(f"{self._what}: step {done} of {self._last}", done / self._last)

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Does nothing: they are in the curve."""

    def saved(self) -> None:
        """Does nothing."""


def _scored(
    trial: Trial, weights: Path, settings: Mapping[str, Any], control: Control
) -> dict[str, Any]:
    """Scores weights on the validation images."""

    def progress(done: int, total: int, outcome: object) -> None:
        control.update(f"{trial.title}: image {done} of {total}", 1 + done / total)
        if control.stopped():
            raise StoppedError

    return score(trial, weights, settings["texts"], progress)


def _digest_of_weights(path: Path) -> str:
    """The sha256 of a weight file, which is read to check that it is one.

    Raises:
        FormatError: it is not a weight file.
        ReadError: it cannot be read.
    """
    with reading(path):
        file = open_file(path)
        read_weights(file)
        return file.digest()


def _settings(trial: Trial) -> dict[str, Any]:
    setting = trial.setting
    composed = RenderedRecipe(trial.variant, setting.images, setting.options)
    return {
        "recipe": f"{trial.variant.net}/{trial.variant.name}",
        "seed": trial.seed,
        "texts": composed.describe(),
        "init": _digest_of_weights(setting.init),
        "images": setting.images.describe(),
        "crf": None if setting.crf is None else setting.crf.as_dict(),
        "overlap": setting.options.overlap,
    }


def _check_settings(folder: Path, wanted: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        return
    found = read_json(path)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise UsageError(
            f"{folder} belongs to a run with another {', '.join(differing)}: give another folder "
            "(-o), or remove this one"
        )


@contextmanager
def _locked(folder: Path, control: Control) -> Iterator[None]:
    """Waits until no other process has the run, such as one whose parent was killed."""
    with open(folder / "lock", "w", opener=never_through_link) as stream:
        while not try_lock(stream):
            if control.stopped():
                raise StoppedError
            control.update(f"waiting for the process that runs in {folder}", 0)
            time.sleep(0.2)
        yield
