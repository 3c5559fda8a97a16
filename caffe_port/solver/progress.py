"""What is shown of a running training: the line in the terminal, TensorBoard, charts."""

from __future__ import annotations

import datetime
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.files import write_text
from caffe_port.reports.chart import Chart, document, draw_chart
from caffe_port.reports.html import page, section
from caffe_port.reports.progress import Throughput
from caffe_port.solver.log import calling_before
from caffe_port.solver.signals import Step

# One line at the foot of a terminal that says how a training goes.

_PAUSE = 0.2  # seconds between two updates of the line
_WINDOW = 50  # updates that the rate is averaged over


class LiveLine:
    """Draws the line; ``clear`` takes it away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._throughput = Throughput(clock, _WINDOW)
        self._rate: float | None = None
        self._drawn, self._shown = 0.0, False

    def step(self, step: Step) -> None:
        """Draws the line anew, unless it was a moment ago."""
        self._rate, now = self._throughput.rate(step.iteration), self._throughput.now
        if now - self._drawn >= _PAUSE:
            self._drawn, self._shown = now, True
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self.text(step)[:width]}", end="", file=sys.stderr, flush=True)

    def text(self, step: Step) -> str:
        """What the line says."""
        words = f"Iteration {step.iteration + 1}/{step.last}  loss {step.loss:.4g}"
        words += f"  lr {step.rate:.4g}"
        if self._rate is not None:
            left = round((step.last - step.iteration - 1) / self._rate)
            words += f"  {self._rate:.3g} iter/s  ETA {datetime.timedelta(seconds=left)}"
        return words

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """They are in the log."""

    def saved(self) -> None:
        """It is in the log."""

    def clear(self) -> None:
        """Takes the line away, before something else is written."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


@contextmanager
def shown_live() -> Iterator[LiveLine | None]:
    """A live line where standard error is a terminal, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    line = LiveLine()
    with calling_before(line.clear):
        try:
            yield line
        finally:
            line.clear()


# A training's figures as TensorBoard reads them.


class TensorBoard:
    """Writes events as the training goes, until ``close``.

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

    def step(self, step: Step) -> None:
        """Loss and rate."""
        self._writer.add_scalar("train/smoothed_loss", step.loss, step.iteration)
        self._writer.add_scalar("train/lr", step.rate, step.iteration)

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """The outputs of a net."""
        for name, value in values.items():
            self._writer.add_scalar(f"{what}/{name}", value, iteration)

    def saved(self) -> None:
        """Puts what was written on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the event file."""
        self._writer.close()


# Loss, learning rate and outputs of a training, kept and drawn.


class Curves:
    """Remembers what happens; draws it at each snapshot, and at the end by ``close``.

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

    def step(self, step: Step) -> None:
        """Keeps loss and rate."""
        self._loss["train, smoothed"].append((step.iteration, step.loss))
        self._rate["learning rate"].append((step.iteration, step.rate))

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Keeps the outputs of a net; those with 'loss' in their name are drawn as such."""
        for name, value in values.items():
            group = self._loss if "loss" in name else self._others
            group[f"{what} {name}"].append((iteration, value))

    def saved(self) -> None:
        """Draws what there is."""
        groups = {"Loss": self._loss, "Learning rate": self._rate, "Outputs": self._others}
        charts = {title: group for title, group in groups.items() if group}
        if self._path.suffix == ".svg":
            text = document(charts)
        else:
            drawn = [section(title, draw_chart(Chart(group))) for title, group in charts.items()]
            text = page("Training", drawn)
        write_text(self._path, text)

    def close(self) -> None:
        """Draws everything, however the training ended."""
        self.saved()
