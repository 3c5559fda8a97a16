"""Predicts the images of a run and writes what was asked for, with resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from caffe_port import locks
from caffe_port.crf import files
from caffe_port.data.images import Bytes, PathLike, note_of, open_written, write_labels
from caffe_port.data.label_values import label_values
from caffe_port.errors import CaffePortError, UsageError
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.scheduler import cores
from caffe_port.files import write_bytes
from caffe_port.interrupts import delayed_interrupt
from caffe_port.prediction.inputs import InputImage
from caffe_port.prediction.segmentation import Found, Segmentation, as_grey, classes_found, file_of
from caffe_port.prediction.segmenter import Segmenter

# The files of a prediction: which there are, how they are written, and when they are kept.
#
#     OUT/index.html                  the gallery
#     OUT/labels/NAME.png             class indices, as a palette PNG
#     OUT/overlays/NAME.jpg           the image under those colours, with a legend
#     OUT/confidence/NAME.png         grey: 255 times the label's probability
#     OUT/entropy/NAME.png            grey: 255 times the entropy over log C
#     OUT/scores/NAME.npy             on request: (C, h, w), before the softmax and the CRF
#     OUT/probabilities/NAME.npy      on request: (C, h, w), after the CRF if there is one
#
# The label map is written last. Its note names the settings, the image and the other files, so a
# later run knows what it can keep.

Extra = Literal["scores", "probabilities"]
EXTRAS: tuple[Extra, ...] = ("scores", "probabilities")
FORMATS = tuple(files.SUFFIXES)
DTYPES = ("float32", "float16")

_MARK = "caffe_port predict"
_LOCK = ".predict.lock"
# what atomic_path calls a file that is not finished
_HALF = re.compile(r"\..+\.[a-z0-9_]{8}\.(png|jpg|npy|npz|h5)")


@dataclass(frozen=True)
class Wanted:
    """Which arrays are written besides the images, and how.

    Args:
        extras: any of "scores" and "probabilities".
        format: "npy", "npz" (under the name of the kind) or "h5" (a data set of that name).
        dtype: "float32" or "float16".
    Raises:
        UsageError: a value that is not one of these.
    """

    extras: tuple[str, ...] = ()
    format: str = "npy"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for extra in self.extras:
            _check("write", extra, EXTRAS)
        _check("format", self.format, FORMATS)
        _check("dtype", self.dtype, DTYPES)


class Output:
    """The folder of a prediction.

    Args:
        root: the folder; made when the first file is written.
        settings: JSON-able; what, besides the image, decides the results.
        wanted: which arrays are written.
    Examples:
        >>> output = Output("out", {}, Wanted(("scores",), "npz"))
        >>> [path.as_posix() for path in output.paths("boat").values()][::4]
        ['out/overlays/boat.jpg', 'out/labels/boat.png']
    """

    def __init__(
        self, root: PathLike, settings: dict[str, object], wanted: Wanted | None = None
    ) -> None:
        self.root, self.wanted = Path(root), wanted or Wanted()
        text = json.dumps(settings, sort_keys=True)
        self._settings = hashlib.sha256(text.encode()).hexdigest()[:16]

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other predictions out of the folder.

        Raises:
            UsageError: another process is in it, or it cannot be written.
        """
        doing = "predicting into this folder"
        return locks.locked(self.root / _LOCK, str(self.root), doing, "choose another folder")

    def drop_unfinished(self) -> None:
        """Removes partial files of a killed run; no other process may be writing."""
        for kind in ("labels", "overlays", "confidence", "entropy", *EXTRAS):
            for file in sorted((self.root / kind).rglob(".*")):
                if _HALF.fullmatch(file.name) and file.is_file():
                    file.unlink()

    def paths(self, name: str) -> dict[str, Path]:
        """Kind -> file of an image's results; the label map is the last."""
        suffixes = {"overlays": ".jpg", "confidence": ".png", "entropy": ".png"}
        suffixes |= dict.fromkeys(self.wanted.extras, f".{self.wanted.format}")
        suffixes["labels"] = ".png"
        return {kind: self.root / kind / (name + suffix) for kind, suffix in suffixes.items()}

    def kept(self, name: str, digest: str) -> Bytes | None:
        """The label map of an earlier run with these settings and this image, or None.

        Args:
            name: of the image's results.
            digest: of the image.
        """
        paths = self.paths(name)
        image = open_written(paths["labels"])
        note, start = "" if image is None else note_of(image), self._note(digest)
        written = set(note.removeprefix(start).split(","))
        complete = note.startswith(start) and written.issuperset(self._arrays())
        if image is None or not complete or not all(path.is_file() for path in paths.values()):
            return None
        try:
            labels = label_values(str(paths["labels"]), image)
        except CaffePortError:
            return None
        return labels.astype(np.uint8)

    def save(self, name: str, digest: str, result: Segmentation) -> None:
        """Writes the results of an image, each file whole or not at all.

        Raises:
            OSError: a file cannot be written.
            UsageError: a score is too large for float16.
        """
        paths = self.paths(name)
        write_bytes(paths["overlays"], file_of(result.overlay(), "JPEG"))
        write_bytes(paths["confidence"], file_of(as_grey(result.confidence), "PNG"))
        write_bytes(paths["entropy"], file_of(as_grey(result.entropy), "PNG"))
        values = {"scores": result.scores, "probabilities": result.probabilities}
        for kind in self.wanted.extras:
            write_array(paths[kind], values[kind], kind, self.wanted.dtype)
        note = self._note(digest) + ",".join(self._arrays())
        write_labels(paths["labels"], result.labels, note=note, colours=result.colours)

    def _arrays(self) -> list[str]:
        wanted = self.wanted
        return [f"{extra}.{wanted.format}.{wanted.dtype}" for extra in wanted.extras]

    def _note(self, digest: str) -> str:
        return f"{_MARK} settings {self._settings} image {digest[:16]} arrays "


def write_array(path: PathLike, values: Floats, name: str, dtype: str = "float32") -> None:
    """Writes scores or probabilities, whole or not at all.

    Args:
        path: .npy, .npz or .h5.
        values: (C, h, w) float32.
        name: under which the array is kept in an .npz or .h5.
        dtype: "float32" or "float16".
    Raises:
        OSError: the file cannot be written.
        UsageError: a value is too large for float16.
    """
    with np.errstate(over="ignore"):
        stored: npt.NDArray[np.floating] = values.astype(dtype)
    if not np.isfinite(stored).all():
        raise UsageError(
            f"{path}: a value of {np.abs(values).max():g} is too large for float16; write float32"
        )
    files.write_array(path, stored, name, compressed=True)


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}; expected {' or '.join(known)}")


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
        """The pixels of the images that need the network; the others are reported immediately."""
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
