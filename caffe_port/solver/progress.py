"""A running training: what signals ask of it, and what it shows (terminal, TensorBoard, charts)."""

from __future__ import annotations

import datetime
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from caffe_port.errors import UsageError
from caffe_port.files import write_text
from caffe_port.reports.chart import Chart, document, draw_chart
from caffe_port.reports.html import page, section
from caffe_port.reports.progress import Throughput
from caffe_port.solver.log import calling_before

EFFECTS = ("none", "snapshot", "stop")  # of signals; of several, the last in this order
_PAUSE = 0.2  # seconds between two updates of the line
_WINDOW = 50  # updates over which the speed is averaged


class Requests:
    """What signals have asked for and what has not been done yet.

    Source: BVLC/caffe util/signal_handler.cpp.

    Args:
        sigint_effect, sighup_effect: 'stop', 'snapshot' or 'none'.
    Raises:
        UsageError: another effect.
    """

    def __init__(self, sigint_effect: str = "stop", sighup_effect: str = "snapshot") -> None:
        self._effects = {signal.SIGINT: sigint_effect}
        if hasattr(signal, "SIGHUP"):
            self._effects[signal.SIGHUP] = sighup_effect
        for effect in (sigint_effect, sighup_effect):
            if effect not in EFFECTS:
                raise UsageError(
                    f"signal effect is '{effect}'; expected one of {', '.join(EFFECTS)}"
                )
        self._came: set[signal.Signals] = set()

    def take(self) -> str:
        """The effect of a signal since the last call, SIGINT's first; 'none' without one."""
        for number, effect in self._effects.items():
            if number in self._came:
                self._came.discard(number)
                return effect
        return "none"

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.add(signal.Signals(number))

    @contextmanager
    def listening(self) -> Iterator[Requests]:
        """Handles the signals; afterwards they have their former handlers."""
        before = {number: signal.signal(number, self._note) for number in self._effects}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class TrainingStep:
    """One update that was made.

    Attributes:
        iteration: which, from 0.
        last: max_iter.
        loss: smoothed over average_loss steps.
        rate: the learning rate.
    """

    iteration: int
    last: int
    loss: float
    rate: float


class Watcher(Protocol):
    """Shows or records a training."""

    def step(self, step: TrainingStep) -> None:
        """An update was made."""

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """A net's outputs were logged.

        Args:
            what: 'train', or 'test', with the number of the test net where there are several.
            iteration: how many updates were made.
            values: output -> value; elements of an output that has several are `name[0]` and so on.
        """

    def saved(self) -> None:
        """A snapshot was written."""


def named(values: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Replaces (output, element) by a name, `output[element]` where it has several."""
    counts: dict[str, int] = {}
    for name, _ in values:
        counts[name] = counts.get(name, 0) + 1
    return {
        f"{name}[{i}]" if counts[name] > 1 else name: value for (name, i), value in values.items()
    }


class LiveLine:
    """The last line of a terminal, with loss, rate and time left; ``clear`` erases it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._throughput = Throughput(clock, _WINDOW)
        self._rate: float | None = None
        self._drawn, self._shown = 0.0, False

    def step(self, step: TrainingStep) -> None:
        """Draws the line, at most every 0.2 seconds."""
        self._rate, now = self._throughput.rate(step.iteration), self._throughput.now
        if now - self._drawn >= _PAUSE:
            self._drawn, self._shown = now, True
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self.text(step)[:width]}", end="", file=sys.stderr, flush=True)

    def text(self, step: TrainingStep) -> str:
        """The text of the line."""
        words = f"Iteration {step.iteration + 1}/{step.last}  loss {step.loss:.4g}"
        words += f"  lr {step.rate:.4g}"
        if self._rate is not None:
            left = round((step.last - step.iteration - 1) / self._rate)
            words += f"  {self._rate:.3g} iter/s  ETA {datetime.timedelta(seconds=left)}"
        return words

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Does nothing: they are in the log."""

    def saved(self) -> None:
        """Does nothing: it is in the log."""

    def clear(self) -> None:
        """Erases the line, before something else is written."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


@contextmanager
def shown_live() -> Iterator[LiveLine | None]:
    """A line that follows the training where standard error is a terminal, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    line = LiveLine()
    with calling_before(line.clear):
        try:
            yield line
        finally:
            line.clear()


class TensorBoard:
    """Writes events for TensorBoard, until ``close``.

    Args:
        folder: where the event file is made.
    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                f"-tensorboard needs the package tensorboard: pip install tensorboard ({error})"
            ) from None
        make: Any = SummaryWriter
        self._writer = make(folder)

    def step(self, step: TrainingStep) -> None:
        """Writes loss and rate."""
        self._writer.add_scalar("train/smoothed_loss", step.loss, step.iteration)
        self._writer.add_scalar("train/lr", step.rate, step.iteration)

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Writes the outputs of a net."""
        for name, value in values.items():
            self._writer.add_scalar(f"{what}/{name}", value, iteration)

    def saved(self) -> None:
        """Flushes the file."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Curves:
    """Draws loss, learning rate and outputs at each snapshot, and at the end by ``close``.

    Args:
        path: the file, .html or .svg.
    Raises:
        UsageError: another suffix.
    """

    def __init__(self, path: str) -> None:
        if Path(path).suffix not in (".html", ".svg"):
            raise UsageError(f"-plot is '{path}'; expected a file .html or .svg")
        self._path = Path(path)
        self._loss: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._rate: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._others: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def step(self, step: TrainingStep) -> None:
        """Keeps loss and rate."""
        self._loss["train, smoothed"].append((step.iteration, step.loss))
        self._rate["learning rate"].append((step.iteration, step.rate))

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Keeps the outputs of a net; those with 'loss' in their name are drawn as such."""
        for name, value in values.items():
            group = self._loss if "loss" in name else self._others
            group[f"{what} {name}"].append((iteration, value))

    def saved(self) -> None:
        """Draws the curves so far."""
        groups = {"Loss": self._loss, "Learning rate": self._rate, "Outputs": self._others}
        charts = {title: group for title, group in groups.items() if group}
        if self._path.suffix == ".svg":
            text = document(charts)
        else:
            drawn = [section(title, draw_chart(Chart(group))) for title, group in charts.items()]
            text = page("Training", drawn)
        write_text(self._path, text)

    def close(self) -> None:
        """Draws all curves, also of a training that failed."""
        self.saved()
