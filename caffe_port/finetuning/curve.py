"""Files of a run: JSON, snapshots, and the curve of its losses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caffe_port import files
from caffe_port.errors import FormatError
from caffe_port.files import read_text, write_text
from caffe_port.solver.progress import TrainingStep


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ReadError: the file cannot be read.
        FormatError: it is not a JSON object.
    """
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise FormatError("expected a JSON object", path=path)
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON object, completely or not at all."""
    files.write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_results(path: Path, form: str, values: dict[str, Any]) -> None:
    """Writes a JSON object with its format, without line breaks."""
    write_text(path, json.dumps({"format": form, **values}, allow_nan=False) + "\n")


def read_results(path: Path, form: str) -> dict[str, Any]:
    """Reads a file of ``write_results``, without its format.

    Raises:
        ReadError: the file cannot be read.
        FormatError: it is not a JSON object of that format.
    """
    values = read_json(path)
    if values.pop("format", None) != form:
        raise FormatError(f"expected the format '{form}'", path=path)
    return values


Points = list[tuple[int, float]]

_PARTS = ("caffemodel", "solverstate", "runstate", "curve.json")
_NAME = re.compile(rf"train_iter_([0-9]{{1,10}})\.({'|'.join(_PARTS)})")


@dataclass
class Curve:
    """The values that a run logged, saved with its snapshots so that resuming leaves no gap.

    Attributes:
        loss: (iteration, loss smoothed over average_loss updates) of every update.
        outputs: output -> the displayed values.
    """

    loss: Points = field(default_factory=list)
    outputs: dict[str, Points] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_text(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Curve:
        """Reads a file of ``write``.

        Raises:
            FormatError: it is another file.
        """
        try:
            values = json.loads(read_text(path))
            outputs = {str(name): _points(points) for name, points in values["outputs"].items()}
            return cls(_points(values["loss"]), outputs)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise FormatError(f"not a curve of a run: {error}", path=path) from error


def _points(values: list[list[float]]) -> Points:
    return [(int(iteration), float(value)) for iteration, value in values]


class CurveWatcher:
    """A watcher that extends a curve and writes it after each snapshot.

    Args:
        curve: the curve so far.
        snapshots: the snapshots of the run, of which only the latest is kept.
    """

    def __init__(self, curve: Curve, snapshots: Snapshots) -> None:
        self.curve, self._snapshots, self._iteration = curve, snapshots, 0

    def step(self, step: TrainingStep) -> None:
        """Adds the loss."""
        self.curve.loss.append((step.iteration, step.loss))
        self._iteration = step.iteration + 1

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Adds the outputs."""
        for name, value in values.items():
            self.curve.outputs.setdefault(name, []).append((iteration, value))

    def saved(self) -> None:
        """Completes the snapshot and removes older ones."""
        self.curve.write(self._snapshots.curve(self._iteration))
        self._snapshots.keep_only(self._iteration)


class Snapshots:
    """The snapshots of a run; the curve of each is written last and makes it complete.

    Args:
        folder: their folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def weights(self, iteration: int) -> Path:
        """The weights after some updates."""
        return self._stem(iteration, "caffemodel")

    def state(self, iteration: int) -> Path:
        """The solver's state."""
        return self._stem(iteration, "solverstate")

    def curve(self, iteration: int) -> Path:
        """The curve so far."""
        return self._stem(iteration, "curve.json")

    def latest(self) -> int | None:
        """The number of updates of the latest complete snapshot."""
        numbers = {number for number, _ in self._files()}
        whole = [n for n in numbers if all(self._stem(n, s).exists() for s in _PARTS)]
        return max(whole, default=None)

    def keep_only(self, iteration: int) -> None:
        """Removes all others."""
        # curves first, so that a partly removed snapshot is not complete
        for number, path in sorted(self._files(), key=lambda pair: pair[1].suffix != ".json"):
            if number != iteration:
                path.unlink(missing_ok=True)

    def drop_states(self) -> None:
        """Removes the files that only resuming needs."""
        for suffix in ("solverstate", "runstate"):
            for path in self.folder.glob(f"train_iter_*.{suffix}"):
                path.unlink(missing_ok=True)

    def _stem(self, iteration: int, suffix: str) -> Path:
        return self.folder / f"train_iter_{iteration}.{suffix}"

    def _files(self) -> list[tuple[int, Path]]:
        """Iteration and path of all files of snapshots."""
        found = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("train_iter_*"))
        return [(int(match[1]), path) for match, path in found if match]
