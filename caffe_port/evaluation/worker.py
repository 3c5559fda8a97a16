"""What one process does for one image: predict or reuse, write, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from caffe_port.data.pictures import Bytes, read_bgr, read_labels
from caffe_port.data.voc import VOCItem
from caffe_port.errors import CaffePortError, DataError
from caffe_port.evaluation.changes import count_changes
from caffe_port.evaluation.confusion import ConfusionMatrix, Counts
from caffe_port.evaluation.prediction import Prediction, label_maps, real_scores
from caffe_port.evaluation.settings import Network, NetworkMaker, Refiner, RefinerMaker, Settings
from caffe_port.evaluation.store import Store


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Args:
        id: the image's id.
        error: why it failed, "" when it did not.
        fatal: the failure is not this image's but the network's or the settings'.
        reused: its label maps were on disk already.
        seconds: what predicting took.
        classes: the network's number of classes.
        before, after: (C, C) confusion counts, None without truth or refinement.
        unknown: truth pixels by label beyond the classes, when they are ignored.
        changes: (C, 4) from ``count_changes``, None without truth or refinement.
    """

    id: str
    error: str = ""
    fatal: bool = False
    reused: bool = False
    seconds: float = 0.0
    classes: int = 0
    before: Counts | None = None
    after: Counts | None = None
    unknown: dict[int, int] = field(default_factory=dict)
    changes: Counts | None = None


@dataclass(frozen=True)
class Job:
    """Everything a process needs; it is pickled to each of them.

    Args:
        make_network, make_refiner: build the two parts; no refinement without the second.
        settings: crop, mean, labels.
        store: where label maps go.
        threads: how many a process may use, None all.
    """

    make_network: NetworkMaker
    make_refiner: RefinerMaker | None
    settings: Settings
    store: Store
    threads: int | None = None


class Worker:
    """Runs a job image by image; the network is built when the first image needs it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._parts: tuple[Network, Refiner | None] | None = None

    def run(self, item: VOCItem) -> Outcome:
        """Predicts and scores one image; an error of this package becomes part of the outcome."""
        return self.begin(item)()

    def begin(self, item: VOCItem) -> Callable[[], Outcome]:
        """Does the network's part of ``run``.

        Returns:
            what does the rest (refines, writes, scores), in any thread.
        """
        try:
            finish = self._begin(item)
        except CaffePortError as error:
            failed = _failure(item, error)
            return lambda: failed

        def guarded() -> Outcome:
            try:
                return finish()
            except CaffePortError as error:
                return _failure(item, error)

        return guarded

    def _begin(self, item: VOCItem) -> Callable[[], Outcome]:
        started = time.perf_counter()
        store = self._job.store
        stored = store.load(item.id, item.image)
        if stored is not None:
            return lambda: self._done(item, stored)
        image = read_bgr(item.image)
        network, refiner = self._network_and_refiner()
        scores = real_scores(image, network, self._job.settings)
        spent = time.perf_counter() - started

        def finish() -> Outcome:
            started = time.perf_counter()
            prediction = label_maps(scores, image, refiner)
            store.save(item.id, item.image, prediction)
            return self._done(item, prediction, spent + time.perf_counter() - started)

        return finish

    def _done(self, item: VOCItem, prediction: Prediction, seconds: float | None = None) -> Outcome:
        self._job.store.save_comp6(item.id, prediction)
        done = Outcome(item.id, "", False, seconds is None, seconds or 0.0, prediction.classes)
        return done if item.label is None else self._scored(item, prediction, done)

    def _network_and_refiner(self) -> tuple[Network, Refiner | None]:
        if self._parts is None:
            job = self._job
            refiner = None if job.make_refiner is None else job.make_refiner(job.threads)
            self._parts = job.make_network(job.threads), refiner
        return self._parts

    def _scored(self, item: VOCItem, prediction: Prediction, done: Outcome) -> Outcome:
        assert item.label is not None
        truth, unknown = self._truth(read_labels(item.label), prediction.classes)
        try:
            before = self._counts(truth, prediction.before, done.classes)
            after = changes = None
            if prediction.after is not None:
                after = self._counts(truth, prediction.after, done.classes)
                changes = self._changes(truth, prediction, prediction.after)
        except DataError as error:
            raise DataError(f"{item.image} and {item.label}: {error}") from error
        return replace(done, before=before, after=after, unknown=unknown, changes=changes)

    def _truth(self, truth: Bytes, classes: int) -> tuple[Bytes, dict[int, int]]:
        settings = self._job.settings
        if settings.unknown_labels == "error":
            return truth, {}
        beyond = (truth >= classes) & (truth != settings.ignore_label)
        labels, counts = np.unique(truth[beyond], return_counts=True)
        known = np.where(beyond, np.uint8(settings.ignore_label), truth)
        return known, dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def _counts(self, truth: Bytes, prediction: Bytes, classes: int) -> Counts:
        matrix = ConfusionMatrix(classes, ignore_label=self._job.settings.ignore_label)
        matrix.add(truth, prediction)
        return matrix.counts

    def _changes(self, truth: Bytes, prediction: Prediction, after: Bytes) -> Counts:
        ignored, classes = self._job.settings.ignore_label, prediction.classes
        return count_changes(truth, prediction.before, after, classes, ignore_label=ignored)


def _failure(item: VOCItem, error: CaffePortError) -> Outcome:
    if not isinstance(error, DataError):
        return Outcome(item.id, error=str(error), fatal=True)
    message = str(error)
    named = message if str(item.image) in message else f"{item.image}: {message}"
    return Outcome(item.id, error=f"{item.where}: {named}")
