"""A folder in which a training runs: its log as it grows, its snapshots and label maps.

Read are the logs of ``caffe train`` (glog's files, or what was redirected into a .log), of real
Caffe too, and the folders of ``caffe-port finetune``. Files are read only; the page names a run by
its number.
"""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_port.data.images import open_image
from caffe_port.errors import UsageError
from caffe_port.evaluation.score_net import ScoreNet
from caffe_port.exploring.jobs import Answer
from caffe_port.exploring.labels import labels_answer
from caffe_port.exploring.sessions import Photo, Session, Subject
from caffe_port.files import open_regular, reading
from caffe_port.reports.chart import thinned
from caffe_port.reports.html import encoded
from caffe_port.weights import read_weights

if TYPE_CHECKING:
    from caffe_port.prediction.segmenter import Segmenter

_STEP = 8 * 2**20  # bytes read at once
_LONGEST = 65536  # bytes of a line; a longer one is skipped
_MOST_POINTS, _SENT = 200_000, 1000  # of a curve: kept, and sent to the page
_MOST_CURVES = 200
_MOST_FILES, _DEEPEST = 20_000, 6  # of the folder: files and levels that are searched
_MOST_RUNS, _MAPS = 200, 6

_LOSS = re.compile(r"\] Iteration (\d+)(?: \([^)]*\))?, loss = (\S+)")
_RATE = re.compile(r"\] Iteration (\d+), lr = (\S+)")
_TESTING = re.compile(r"\] Iteration (\d+), Testing net \(#(\d+)\)")
_OUTPUT = re.compile(r"\]\s+(Train|Test) net output #\d+: (\S+) = (\S+)")
_LAST = re.compile(r"max_iter: (\d+)$")
_SNAPSHOT = re.compile(r".*_iter_(\d{1,10})\.caffemodel(?:\.h5)?$")


class LogCurves:
    """The curves of a solver's log, line by line.

    Attributes:
        curves: group ("Loss", "Learning rate", "Outputs") -> name -> (iteration, value).
        iteration: of the last line.
        last: max_iter, if the log states it.
    """

    def __init__(self) -> None:
        self.curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
        self.iteration = 0
        self.last: int | None = None
        self._net = ""  # the test net whose outputs follow
        self._at = {"Train": 0, "Test": 0}
        self._elements: dict[str, int] = {}  # of each output since the last iteration
        self._several: set[str] = set()  # outputs with several elements

    def add(self, line: str) -> None:
        """Takes one line of the log."""
        if found := _LOSS.search(line):
            self._elements.clear()
            self._at["Train"] = int(found[1])
            self._put("Loss", "train, smoothed", int(found[1]), found[2])
        elif found := _RATE.search(line):
            self._put("Learning rate", "learning rate", int(found[1]), found[2])
        elif found := _TESTING.search(line):
            self._elements.clear()
            self._at["Test"], self._net = int(found[1]), found[2]
        elif found := _OUTPUT.search(line):
            net = "" if self._net == "0" else f" {self._net}"
            what = "train" if found[1] == "Train" else f"test{net}"
            group = "Loss" if "loss" in found[2].lower() else "Outputs"
            name = self._element(group, f"{what} {found[2]}")
            self._put(group, name, self._at[found[1]], found[3])
        elif found := _LAST.match(line):
            self.last = int(found[1])

    def _element(self, group: str, name: str) -> str:
        """The name of an output's next element: `name[0]` and so on where it has several."""
        number = self._elements.get(name, 0)
        self._elements[name] = number + 1
        if number and name not in self._several:
            self._several.add(name)
            curves = self.curves.get(group, {})
            if name in curves:
                curves[f"{name}[0]"] = curves.pop(name)
        return f"{name}[{number}]" if name in self._several else name

    def _put(self, group: str, name: str, iteration: int, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            return
        curves = self.curves.setdefault(group, {})
        if name not in curves and sum(map(len, self.curves.values())) >= _MOST_CURVES:
            return
        points = curves.setdefault(name, [])
        # a resumed training repeats what came after its snapshot
        while points and points[-1][0] >= iteration:
            points.pop()
        points.append((iteration, value))
        if len(points) > _MOST_POINTS:
            points[:] = thinned(points, _MOST_POINTS // 2)
        self.iteration = iteration


class Log:
    """A log file that is read on as it grows.

    Args:
        path: the file.
    Attributes:
        read: its curves so far.
        version: changes whenever they do.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.read, self.version = path, LogCurves(), 0
        self._at, self._file, self._rest = 0, 0, b""

    def update(self) -> None:
        """Reads what was added; from the start where the file was replaced or cut.

        Raises:
            ReadError: it cannot be read.
        """
        with reading(self.path), open_regular(self.path) as stream:
            found = os.fstat(stream.fileno())
            if found.st_ino != self._file or found.st_size < self._at:
                self.read, self._at, self._rest = LogCurves(), 0, b""
                self._file = found.st_ino
                self.version += 1
            stream.seek(self._at)
            while content := stream.read(_STEP):
                self._at += len(content)
                self._take(content)
                self.version += 1

    def _take(self, content: bytes) -> None:
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            if len(line) <= _LONGEST:
                self.read.add(line.decode("utf-8", "replace").rstrip("\r"))
        if len(self._rest) > _LONGEST:
            self._rest = self._rest[: _LONGEST + 1]  # still too long when its end comes


class RunFolder:
    """The runs below a folder; called from several threads.

    Args:
        folder: of ``caffe train`` or ``caffe-port finetune``, or one above several.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs: dict[Path, Log] = {}
        self._maps: list[Path] = []
        self._lock = threading.Lock()
        self._loaded: tuple[object, Segmenter] | None = None

    def answer(self, asked: Mapping[str, Any]) -> Answer:
        """All runs, and the curves of one.

        Args:
            asked: "run", its number, and "version", that of the curves which the page has.
        Raises:
            ReadError: its log cannot be read.
        """
        with self._lock:
            files = list(self._files())
            logs = self._found(files)
            number = asked.get("run", 0)
            head: dict[str, Any] = {
                "folder": self.folder.name,
                "runs": [log.path.relative_to(self.folder).as_posix() for log in logs],
            }
            if not isinstance(number, int) or not 0 <= number < len(logs):
                return Answer({**head, "run": None})
            log = logs[number]
            log.update()
            self._maps = _label_maps(files, log.path.parent)
            snapshot = _latest(files, log.path.parent)
            head |= {
                "run": number, "version": log.version, "iteration": log.read.iteration,
                "last": log.read.last, "snapshot": None if snapshot is None else snapshot[0],
                "maps": [path.stem for path in self._maps],
            }  # fmt: skip
            if asked.get("version") == log.version:
                return Answer(head)
            curves = {
                group: {name: thinned(points, _SENT) for name, points in curves.items()}
                for group, curves in log.read.curves.items()
            }
            return Answer({**head, "curves": curves})

    def label_map(self, number: int) -> bytes:
        """One of the newest label maps, as a PNG of colours.

        Raises:
            UsageError: there is no such map.
            DataError: it cannot be read.
        """
        with self._lock:
            if not 0 <= number < len(self._maps):
                raise UsageError(f"label map {number}; there are {len(self._maps)}")
            path = self._maps[number]
        with open_image(path) as image:
            return encoded(image.convert("RGB"), "PNG")

    def snapshot_answer(self, subject: Subject, session: Session, number: int) -> Answer:
        """What the newest snapshot says about the session's image.

        Args:
            number: of the run.
        Raises:
            UsageError: there is no such run or no snapshot, or the net has none of its layers.
            CaffePortError: it cannot be read or does not fit the net.
        """
        with self._lock:
            files = list(self._files())
            logs = self._found(files)
            if not 0 <= number < len(logs):
                raise UsageError(f"run {number}; there are {len(logs)}")
            found = _latest(files, logs[number].path.parent)
        if found is None:
            raise UsageError(f"{self.folder}: holds no snapshot *_iter_N.caffemodel yet")
        iteration, path = found
        photo = session.expect_photo()
        segmenter = self._segmenter(subject, path)
        scores = next(segmenter.predict_scores([photo.bgr]))
        other = Session(Photo(photo.name, photo.bgr, photo.stored, scores, photo.truth))
        answer = labels_answer(subject, other, "network")
        return Answer({**answer.head, "iteration": iteration}, answer.arrays)

    def _segmenter(self, subject: Subject, path: Path) -> Segmenter:
        """The subject's segmenter with the snapshot's weights; that of the last one is kept."""
        with reading(path):
            stat = path.stat()
        key = path, stat.st_ino, stat.st_mtime_ns
        if self._loaded is None or self._loaded[0] != key:
            own = subject.segmenter.scores
            net = copy.deepcopy(own.net) if self._loaded is None else self._loaded[1].scores.net
            self._loaded = None
            if not net.load_stored(read_weights(path).layers, strict=False).pairs:
                raise UsageError(f"{path}: the model has none of this snapshot's layers")
            other = copy.copy(subject.segmenter)
            other.scores = ScoreNet(net, own.blob, crop=own.crop)
            self._loaded = key, other
        return self._loaded[1]

    def _found(self, files: list[Path]) -> list[Log]:
        """The logs, the newest first; one that has two names counts once."""
        named: dict[str, tuple[float, Path]] = {}
        for path in files:
            is_log = path.suffix in (".log", ".INFO") or ".log.INFO." in path.name
            if is_log and (time := _changed(path)) is not None:
                named.setdefault(os.path.realpath(path), (time, path))
        newest = sorted(named.values(), key=lambda pair: (-pair[0], pair[1]))[:_MOST_RUNS]
        paths = sorted(path for _, path in newest)
        self._logs = {path: self._logs.get(path) or Log(path) for path in paths}
        return list(self._logs.values())

    def _files(self) -> Iterator[Path]:
        count = 0
        for here, folders, files in os.walk(self.folder):
            deep = len(Path(here).relative_to(self.folder).parts)
            folders[:] = sorted(folders) if deep < _DEEPEST else []
            for name in sorted(files):
                count += 1
                if count > _MOST_FILES:
                    return
                yield Path(here, name)


def _changed(path: Path) -> float | None:
    """When a file was changed last; None for one that is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _latest(files: list[Path], folder: Path) -> tuple[int, Path] | None:
    """The iteration and file of the newest snapshot, of the run's folder if it has any."""
    found = [
        (time, int(name[1]), path)
        for path in files
        if (name := _SNAPSHOT.fullmatch(path.name)) and (time := _changed(path)) is not None
    ]
    own = [one for one in found if folder in one[2].parents]
    newest = max(own or found, key=lambda one: (one[0], one[1]), default=None)
    return None if newest is None else newest[1:]


def _label_maps(files: list[Path], folder: Path) -> list[Path]:
    """The newest label maps that an evaluation in the run's folder wrote."""
    found = [
        (time, path)
        for path in files
        if path.suffix == ".png" and path.parent.name in ("before", "after")
        and folder in path.parents and not path.name.startswith(".")
        and (time := _changed(path)) is not None
    ]  # fmt: skip
    return [path for _, path in sorted(found, key=lambda one: (-one[0], one[1]))[:_MAPS]]
