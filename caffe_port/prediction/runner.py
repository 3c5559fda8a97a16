"""Many images through one model: reading, network, CRF and writing overlap; memory is constant."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from caffe_port.data.images import Bytes
from caffe_port.errors import CaffePortError
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.scheduler import cores
from caffe_port.interrupts import delayed_interrupt
from caffe_port.prediction.inputs import InputImage
from caffe_port.prediction.output import Output
from caffe_port.prediction.segmentation import Found, classes_found
from caffe_port.prediction.segmenter import Segmenter

_AHEAD = 2  # images that are decoded before the network is free for them


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        number: its place among all inputs, from 0.
        name: of its results.
        where: the image's file, or the video and its frame.
        size: height and width; None where it failed.
        found: its classes, the largest first.
        kept: whether its results are of an earlier run.
        error: why it failed.
    """

    number: int
    name: str
    where: str
    size: tuple[int, int] | None = None
    found: Sequence[Found] = ()
    kept: bool = False
    error: str = ""


@dataclass
class _Entry:
    """An image on its way."""

    number: int
    image: InputImage
    kept: Bytes | None = None  # the label map of an earlier run


def predict_all(
    images: Iterable[InputImage],
    segmenter: Segmenter,
    output: Output,
    report: Callable[[Outcome], None],
) -> None:
    """Predicts images one after the other and writes their results as they are made.

    Results of an earlier run with the same model, settings and image are kept. An image that
    fails does not stop the others. When the call is interrupted, what has left the network is
    still written and reported.

    Args:
        images: such as ``Inputs``; read in a thread of their own, a few in advance.
        segmenter: the model.
        output: where results go.
        report: called after each image, in the order in which they are finished.
    Raises:
        CaffePortError: the network itself cannot run.
        OSError: the results cannot be written.
    """
    job = _Job(segmenter, output, report)
    loaded = _loaded(images, output)
    with contextlib.closing(loaded), ThreadPoolExecutor(job.threads) as pool:
        finishing: deque[Future[Outcome]] = deque()
        try:
            for scores in segmenter.predict_scores(job.to_network(loaded)):
                finishing.append(pool.submit(job.finish, job.waiting.popleft(), scores))
                while finishing and (finishing[0].done() or len(finishing) > job.threads):
                    job.report_first(finishing)
        finally:
            # also after Ctrl-C: these only need to be written
            while finishing:
                job.report_first(finishing)


class _Job:
    """What all images share.

    Attributes:
        waiting: images in the network, in order.
        threads: how many write results, and how many each CRF has.
    """

    def __init__(
        self, segmenter: Segmenter, output: Output, report: Callable[[Outcome], None]
    ) -> None:
        self._segmenter, self._output, self._report = segmenter, output, report
        self.waiting: deque[_Entry] = deque()
        self.threads = cores()

    def report_first(self, finishing: deque[Future[Outcome]]) -> None:
        """Waits for the first of them and reports it; a Ctrl-C loses no outcome."""
        outcome = finishing[0].result()
        with delayed_interrupt():
            finishing.popleft()
            self._report(outcome)

    def to_network(self, loaded: Iterable[_Entry]) -> Iterator[Bytes]:
        """The pixels of the images that need the network; the others are reported at once."""
        for entry in loaded:
            if entry.image.error:
                self._report(self._failed(entry, entry.image.error))
            elif entry.kept is not None:
                self._report(replace(self._done(entry, entry.kept), kept=True))
            else:
                assert entry.image.pixels is not None
                self.waiting.append(entry)
                yield entry.image.pixels

    def finish(self, entry: _Entry, scores: Floats) -> Outcome:
        """The CRF, and all files of an image."""
        image = entry.image
        assert image.pixels is not None
        try:
            result = self._segmenter.finish(image.pixels, scores, threads=self.threads)
            self._output.save(image.name, image.digest, result)
        except CaffePortError as error:
            return self._failed(entry, f"{image.where}: {error}")
        return self._done(entry, result.labels)

    def _done(self, entry: _Entry, labels: Bytes) -> Outcome:
        found = classes_found(labels, self._segmenter.names)
        size = (labels.shape[0], labels.shape[1])
        return Outcome(entry.number, entry.image.name, entry.image.where, size, found)

    def _failed(self, entry: _Entry, error: str) -> Outcome:
        return Outcome(entry.number, entry.image.name, entry.image.where, error=error)


def _loaded(images: Iterable[InputImage], output: Output) -> Generator[_Entry, None, None]:
    """Decoded images, and the label maps that can be kept, from a thread that works ahead."""
    ready: queue.Queue[_Entry | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(entry: _Entry | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(entry, timeout=0.1)
                return

    def read() -> None:
        try:
            for number, image in enumerate(images):
                if stop.is_set():
                    return
                kept = None if image.error else output.kept(image.name, image.digest)
                put(_Entry(number, image, kept))
            put(None)
        except BaseException as error:
            put(error)

    reader = threading.Thread(target=read, name="reading images", daemon=True)
    reader.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        stop.set()
        reader.join()
