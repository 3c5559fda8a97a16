"""The steps of one image: predict or reuse, write, compare with the truth."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from caffe_port.data.images import Bytes, decode_image, read_content, size_advice
from caffe_port.data.voc import VOCItem
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.network import (
    Floats,
    Network,
    NetworkFactory,
    Settings,
    full_scores,
    small_scores,
)
from caffe_port.evaluation.refinement import Prediction, Refiner, label_maps
from caffe_port.evaluation.scheduler import FINISH, NETWORK, Step
from caffe_port.evaluation.score_net import network_input
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, count_changes
from caffe_port.evaluation.store import ScoreCache, Store


@dataclass(frozen=True)
class Outcome:
    """The result of one image.

    Args:
        id: the image's id.
        error: why it failed, "" when it did not.
        fatal: the cause of the failure is not this image but the network or the settings.
        reused: its label maps were on disk already.
        cached: its scores were in the cache.
        remark: something else to report, "" for nothing.
        seconds: the time that its steps took.
        classes: the network's number of classes.
        before, after: (C, C) confusion counts, None without truth or refinement.
        unknown: truth pixels by label beyond the classes, when they are ignored.
        void: truth pixels that the data set leaves out.
        changes: (C, 4) from ``count_changes``, None without truth or refinement.
    """

    id: str
    error: str = ""
    fatal: bool = False
    reused: bool = False
    cached: bool = False
    remark: str = ""
    seconds: float = 0.0
    classes: int = 0
    before: Counts | None = None
    after: Counts | None = None
    unknown: dict[int, int] = field(default_factory=dict)
    void: int = 0
    changes: Counts | None = None

    @property
    def lines(self) -> list[str]:
        """What to print of this image: why it was skipped, and its remark."""
        skipped = [f"skipped: {self.error}"] if self.error else []
        return [*skipped, *([self.remark] if self.remark else [])]


Next = Step[Outcome] | Outcome
Progress = Callable[[int, int, Outcome], None]  # images done by all, images, the latest outcome


@dataclass(frozen=True)
class Job:
    """What is common to all images.

    Args:
        make_network: builds the network when the first image needs it.
        refiner: None for no refinement.
        settings: crop, mean, labels.
        store: where label maps are written.
        cache: where scores are kept; None to keep none.
    """

    make_network: NetworkFactory
    refiner: Refiner | None
    settings: Settings
    store: Store
    cache: ScoreCache | None = None


@dataclass
class _Image:
    """An image in progress: what later steps need from earlier ones."""

    item: VOCItem
    digest: str = ""
    seconds: float = 0.0
    remark: str = ""
    cached: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def decode(self, content: bytes) -> None:
        self.pixels: Bytes = decode_image(content, str(self.item.image), True)


class ImageSteps:
    """Makes the steps of a job for each image, to be run in any threads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._building = threading.Lock()
        self._network: Network | None = None

    def begin(self, item: VOCItem) -> Next:
        """Reads an image; its last step returns its outcome.

        An error of this package becomes part of the outcome.
        """
        image = _Image(item)
        return self._timed(image, lambda: self._read(image))

    def _step(self, stage: int, image: _Image, does: Callable[[], Next]) -> Step[Outcome]:
        return Step(stage, lambda: self._timed(image, does))

    def _timed(self, image: _Image, does: Callable[[], Next]) -> Next:
        started = time.perf_counter()
        try:
            after = does()
        except CaffePortError as error:
            return _failure(image.item, error)
        image.seconds += time.perf_counter() - started
        if isinstance(after, Outcome) and not after.reused:
            return replace(after, seconds=image.seconds)
        return after

    def _read(self, image: _Image) -> Next:
        item, cache = image.item, self._job.cache
        content = read_content(item.image)
        image.digest = hashlib.sha256(content).hexdigest()
        stored = self._job.store.load(item.id, image.digest)
        if stored is not None:
            return self._done(image, stored, reused=True)
        image.decode(content)
        data = network_input(image.pixels, self._job.settings)
        scores = None
        try:
            scores = cache.load(image.digest) if cache else None
        except DataError as error:
            image.remark = f"{error}; recomputed"
        if scores is None:
            return self._step(NETWORK, image, lambda: self._classify(image, data))
        image.cached, found = True, scores
        return self._step(FINISH, image, lambda: self._finish(image, found))

    def _classify(self, image: _Image, data: Floats) -> Next:
        scores = small_scores(data, self._built(), self._job.settings, image.size)
        return self._step(FINISH, image, lambda: self._finish(image, scores))

    def _finish(self, image: _Image, scores: Floats) -> Outcome:
        job = self._job
        if job.cache and not image.cached:
            job.cache.save(image.digest, scores)
        whole = full_scores(scores, self._built(), job.settings, image.size)
        try:
            prediction = label_maps(whole, image.pixels, job.refiner)
        except UsageError as error:  # such as widths too small for an image of this size
            raise UsageError(f"{image.item.image}: {error}") from error
        job.store.save(image.item.id, image.digest, prediction)
        return self._done(image, prediction)

    def _done(self, image: _Image, prediction: Prediction, *, reused: bool = False) -> Outcome:
        item = image.item
        self._job.store.save_comp6(item.id, prediction)
        done = Outcome(
            item.id,
            reused=reused,
            cached=image.cached,
            remark=image.remark,
            classes=prediction.classes,
        )
        return done if item.label is None else self._scored(item, prediction, done)

    def _built(self) -> Network:
        with self._building:
            if self._network is None:
                try:
                    self._network = self._job.make_network()
                except DataError as error:  # not a fault of the image
                    raise UsageError(str(error)) from error
            return self._network

    def _scored(self, item: VOCItem, prediction: Prediction, done: Outcome) -> Outcome:
        assert item.label is not None
        truth = self._job.settings.rules.read(item.label, prediction.classes)
        try:
            before = _counts(truth.labels, prediction.before, done.classes)
            after = changes = None
            if prediction.after is not None:
                after = _counts(truth.labels, prediction.after, done.classes)
                changes = count_changes(
                    truth.labels, prediction.before, prediction.after, done.classes
                )
        except DataError as error:
            advice = size_advice(item.image, truth.labels.shape)
            raise DataError(f"{item.image} and {item.label}: {error}{advice}") from error
        return replace(
            done,
            before=before,
            after=after,
            unknown=truth.unknown,
            void=int(truth.void.sum()),
            changes=changes,
        )


def _counts(truth: Bytes, prediction: Bytes, classes: int) -> Counts:
    matrix = ConfusionMatrix(classes)
    matrix.add(truth, prediction)
    return matrix.counts


def _failure(item: VOCItem, error: CaffePortError) -> Outcome:
    if not isinstance(error, DataError):
        return Outcome(item.id, error=str(error), fatal=True)
    message = str(error)
    named = message if str(item.image) in message else f"{item.image}: {message}"
    return Outcome(item.id, error=f"{item.where}: {named}")
