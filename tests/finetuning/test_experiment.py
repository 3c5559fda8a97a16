"""Whole experiments on a tiny net: kept, gone on with, the same however they were broken off."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import queue
import shutil
import signal
import threading

import pytest
from PIL import Image

from caffe_port.errors import CaffePortError, FormatError, UsageError
from caffe_port.finetuning import experiment, running
from caffe_port.finetuning.curve import Curve, Snapshots
from caffe_port.finetuning.experiment import make_trials, run_all
from caffe_port.finetuning.results import gather
from caffe_port.finetuning.scoring import Control, StoppedError, Trial
from caffe_port.weights import read_weights, write_weights
from tests.finetuning.making import make_setting, make_shifted

LAST = 8


class Crash(BaseException):
    """What nothing catches, as a process that is killed."""


class Noting:
    """A progress that records its calls and runs a function at each."""

    def __init__(self, act=lambda run, what, part: None):
        self.calls, self.finished, self._act = [], [], act

    def update(self, run, what, part):
        self.calls.append((run, what, part))
        self._act(run, what, part)

    def done(self, run):
        self.finished.append(run)


@pytest.fixture
def setup(tmp_path):
    return make_setting(tmp_path)


def outcome(trial: Trial):
    """All that must not depend on how a run was broken off."""
    result = json.loads((trial.folder / "result.json").read_text())
    assert result.pop("seconds")["training"] >= 0
    snapshots = Snapshots(trial.folder / "snapshots")
    # the file itself holds the path of the net's list
    weights = [
        blob.data.tobytes()
        for layer in read_weights(snapshots.weights(LAST)).layers
        for _, blob in layer.numbered()
    ]
    return result, Curve.read(snapshots.curve(LAST)), weights


def control(act=lambda part: None, stopped=lambda: False):
    return Control(stopped, lambda what, part: act(part))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, and what it gave."""
    root = tmp_path_factory.mktemp("finished")
    setting, variants = make_setting(root)
    trial = Trial(setting, variants[1], 3, root / "run")
    running.run(trial, control())
    return trial, outcome(trial)


@pytest.fixture
def uninterrupted(tmp_path, finished):
    """The same run, not yet begun, and what it has to give."""
    trial, found = finished
    return dataclasses.replace(trial, folder=tmp_path / "run"), found


def test_a_run_learns_and_is_scored(uninterrupted):
    _, (result, curve, _) = uninterrupted
    assert (result["variant"], result["seed"], result["steps"]) == (
        "step_pull_push_cosine",
        3,
        LAST,
    )
    assert [i for i, _ in curve.loss] == list(range(LAST))
    assert [i for i, _ in curve.outputs["feedback"]] == [0, 2, 4, 6]
    assert result["images"] == 2
    assert 0 < result["before"]["mean_iou"] < 1
    assert result["after"] is None
    assert len(result["templates"]["correlation"]) == 6
    assert result["from_fillers"] == []


# snapshots are at 3, 6 and 8; from 1 on the scoring tells
def test_a_data_sets_own_labels_give_the_same_run(tmp_path, finished):
    trial, (result, curve, weights) = finished
    setting = dataclasses.replace(trial.setting, images=make_shifted(tmp_path))
    other = dataclasses.replace(trial, setting=setting, folder=tmp_path / "run")
    running.run(other, control())
    assert outcome(other) == (result, curve, weights)
    written = next((other.folder / "evaluation" / "before").glob("*.png"))
    with Image.open(written) as image:
        assert image.getpalette()[3:6] == [30, 0, 9]


def test_a_data_set_of_other_classes_is_refused(tmp_path, finished):
    trial, _ = finished
    setting = dataclasses.replace(trial.setting, images=make_shifted(tmp_path, classes=7))
    other = dataclasses.replace(trial, setting=setting, folder=tmp_path / "run")
    with pytest.raises(UsageError, match="has 6 classes, the data set shifted has 7"):
        running.run(other, control())
    assert not (other.folder / "result.json").exists()


def test_windows_cover_larger_images(tmp_path, finished):
    trial, _ = finished
    options = dataclasses.replace(trial.setting.options, overlap=0.5)
    setting = dataclasses.replace(trial.setting, options=options)
    small = trial.variant.recipe.test.replace("crop_size: 161", "crop_size: 81")
    recipe = dataclasses.replace(trial.variant.recipe, test=small)
    other = dataclasses.replace(
        trial,
        setting=setting,
        variant=dataclasses.replace(trial.variant, recipe=recipe),
        seed=None,
        folder=tmp_path / "run",
    )
    running.run(other, control())
    result = json.loads((other.folder / "result.json").read_text())
    assert 0 < result["before"]["mean_iou"] < 1
    assert result["templates"] is None


@pytest.mark.parametrize("steps", [2, 4, 7, 8, 9, 10])
def test_a_killed_run_resumes_to_the_same_result(uninterrupted, steps):
    trial, expected = uninterrupted
    calls = []

    def crash(part):
        calls.append(part)
        if len(calls) == steps:
            raise Crash

    with pytest.raises(Crash):
        running.run(trial, control(crash))
    assert not (trial.folder / "result.json").exists()
    running.run(trial, control())
    assert outcome(trial) == expected


def test_a_run_killed_while_it_saves(uninterrupted, monkeypatch):
    trial, expected = uninterrupted
    write = Curve.write
    monkeypatch.setattr(Curve, "write", lambda self, path: (_ for _ in ()).throw(Crash))
    with pytest.raises(Crash):
        running.run(trial, control())
    assert Snapshots(trial.folder / "snapshots").latest() is None
    monkeypatch.setattr(Curve, "write", write)
    running.run(trial, control())
    assert outcome(trial) == expected


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_stopped_run_loses_nothing(uninterrupted, steps):
    trial, expected = uninterrupted
    calls = []
    with pytest.raises(StoppedError):
        running.run(trial, control(calls.append, lambda: len(calls) >= steps))
    if steps < LAST:
        assert Snapshots(trial.folder / "snapshots").latest() == steps
    running.run(trial, control())
    assert outcome(trial) == expected


def test_a_folder_of_another_run_is_refused(finished, uninterrupted):
    trial, _ = uninterrupted
    shutil.copytree(finished[0].folder, trial.folder)
    assert running.finished(trial) is not None
    with pytest.raises(UsageError, match="another seed: give another folder"):
        running.run(dataclasses.replace(trial, seed=4), control())
    (trial.folder / "result.json").write_text("[]")
    with pytest.raises(FormatError, match="expected a JSON object"):
        running.finished(trial)


def test_a_run_waits_for_another_process_in_its_folder(uninterrupted):
    fcntl = pytest.importorskip("fcntl")
    trial, expected = uninterrupted
    trial.folder.mkdir()
    calls = []
    with (trial.folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        waiting = Control(lambda: len(calls) > 1, lambda what, part: calls.append(what))
        with pytest.raises(StoppedError):
            running.run(trial, waiting)
    assert "waiting for the process" in calls[0]
    running.run(trial, control())
    assert outcome(trial) == expected


def test_a_file_system_without_locks_is_accepted(uninterrupted, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(stream, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    trial, expected = uninterrupted
    running.run(trial, control())
    assert outcome(trial) == expected


def test_class_names_are_as_many_as_classes(finished):
    trial, _ = finished
    assert gather([trial], list("abcdef")).names == list("abcdef")
    with pytest.raises(UsageError, match="5 class names for a network of 6 classes"):
        gather([trial], list("abcde"))


def test_weights_of_another_net(tmp_path, setup):
    setting, variants = setup
    other = tmp_path / "other.caffemodel"
    other.write_bytes(b"")
    trial = Trial(dataclasses.replace(setting, init=other), variants[0], 1, tmp_path / "run")
    with pytest.raises(CaffePortError, match="other"):
        running.run(trial, control())


def test_weights_that_lack_a_layer_are_not_scored_but_trained(tmp_path, setup):
    setting, variants = setup
    stored = read_weights(setting.init)
    few = tmp_path / "few.caffemodel"
    write_weights(few, [layer for layer in stored.layers if layer.name != "scores"], name="few")
    work = make_trials(dataclasses.replace(setting, init=few), variants[:1], [1], tmp_path / "out")
    run_all(work, Noting())
    results = gather(work)
    assert results.start.before is None
    assert results.scores["step_softmax"][1].before > 0
    assert results.from_fillers == ["layer 'scores', blob 0", "layer 'scores', blob 1"]
    none = tmp_path / "none.caffemodel"
    write_weights(none, [dataclasses.replace(stored.layers[-1], name="other")], name="none")
    lost = Trial(dataclasses.replace(setting, init=none), variants[0], 1, tmp_path / "lost")
    with pytest.raises(UsageError, match="the net of the recipe has none of its layers"):
        running.run(lost, control())


def test_a_run_that_diverges_has_a_result_without_figures(tmp_path):
    setting, variants = make_setting(tmp_path)
    recipe = variants[0].recipe
    wild = dataclasses.replace(recipe, solver=recipe.solver.replace("0.0001", "1e30"))
    wild = dataclasses.replace(variants[0], recipe=wild)
    work = make_trials(setting, [wild], [1], tmp_path / "out")
    run_all(work, Noting())
    results = gather(work)
    assert results.scores["step_softmax"][1].before is None
    assert results.mean_ious("step_softmax", "before") == {}
    results.write(tmp_path / "results.json")


def test_an_experiment_resumes_and_grows(tmp_path, setup):
    setting, variants = setup
    out = tmp_path / "out"

    def interrupt(run, what, part):
        if (run, part) == (2, 0.5):
            os.kill(os.getpid(), signal.SIGINT)

    first = make_trials(setting, variants, [1], out)
    with pytest.raises(KeyboardInterrupt):
        run_all(first, Noting(interrupt))
    assert Snapshots(first[2].folder / "snapshots").latest() is not None
    progress = Noting()
    work = make_trials(setting, variants, [1, 2], out)
    run_all(work, progress)
    assert sorted(progress.finished) == list(range(5))
    assert min(run for run, _, _ in progress.calls) == 2
    assert progress.calls[0][2] > 0.5
    results = gather(work)
    assert {name: list(by) for name, by in results.scores.items()} == {
        "step_softmax": [1, 2], "step_pull_push_cosine": [1, 2]
    }  # fmt: skip
    assert results.start is not None
    confusion = json.loads((work[0].folder / "result.json").read_text())["before"]["confusion"]
    share = confusion[1][0] / sum(confusion[1])
    assert results.start.lost[1] == pytest.approx(share, abs=1e-5)
    seeds = results.mean_ious("step_softmax", "before")
    assert len(set(seeds.values())) == 2
    assert results.curves["step_pull_push_cosine"].keys() == {"total", "loss", "feedback"}
    assert len(results.names) == 6


def test_processes_give_what_one_gives(tmp_path, setup):
    setting, variants = setup
    alone = make_trials(setting, variants, [1], tmp_path / "alone")
    run_all(alone, Noting())
    together = make_trials(setting, variants, [1], tmp_path / "together")
    progress, threads = Noting(), threading.active_count()
    run_all(together, progress, jobs=2)
    assert sorted(progress.finished) == [0, 1, 2]
    assert {run for run, _, _ in progress.calls} == {0, 1, 2}
    assert threading.active_count() == threads
    for one, other in zip(alone[1:], together[1:], strict=True):
        results = [json.loads((t.folder / "result.json").read_text()) for t in (one, other)]
        for result in results:
            del result["seconds"]
        assert results[0] == results[1]


def process(monkeypatch, parent):
    """Makes this process think that it is one of a pool."""
    messages = queue.SimpleQueue()
    monkeypatch.setattr(experiment, "_process", [(threading.Event(), messages, parent)])


def test_an_error_in_a_process_is_reported_as_text(tmp_path, setup, monkeypatch):
    setting, variants = setup
    process(monkeypatch, os.getppid())
    lost = dataclasses.replace(setting, init=tmp_path / "none")
    kind, words = experiment._run(0, Trial(lost, variants[0], 1, tmp_path / "run"))
    assert kind == "failed"
    assert "none: cannot be read" in words


def test_a_process_without_its_parent_ends(tmp_path, setup, monkeypatch):
    setting, variants = setup
    process(monkeypatch, -1)
    assert experiment._run(0, Trial(setting, variants[0], 1, tmp_path / "run")) == ("stopped", None)
    assert not (tmp_path / "run").exists()
