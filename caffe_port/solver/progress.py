"""What is shown of a running training: the line in the terminal, TensorBoard, charts."""

from __future__ import annotations

import datetime
import math
import shutil
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.files import write_text
from caffe_port.html import Html, page, section, text
from caffe_port.solver.log import calling_before
from caffe_port.solver.signals import Step

# One line at the foot of a terminal that says how a training goes.

_PAUSE = 0.2  # seconds between two updates of the line
_WINDOW = 50  # updates that the rate is averaged over


class LiveLine:
    """Draws the line; ``clear`` takes it away."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)
        self._drawn, self._shown = 0.0, False

    def step(self, step: Step) -> None:
        """Draws the line anew, unless it was a moment ago."""
        now = time.monotonic()
        self._times.append(now)
        if now - self._drawn >= _PAUSE:
            self._drawn, self._shown = now, True
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self.text(step)[:width]}", end="", file=sys.stderr, flush=True)

    def text(self, step: Step) -> str:
        """What the line says."""
        words = f"Iteration {step.iteration + 1}/{step.last}  loss {step.loss:.4g}"
        words += f"  lr {step.rate:.4g}"
        taken = self._times[-1] - self._times[0]
        if taken > 0:
            rate = (len(self._times) - 1) / taken
            left = datetime.timedelta(seconds=round((step.last - step.iteration - 1) / rate))
            words += f"  {rate:.3g} iter/s  ETA {left}"
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


# Line charts as SVG.

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 860, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 220, 14, 34
_COLOURS = ("#2c5d8f", "#c4582b", "#22713f", "#8a4fa3", "#7d5700", "#a8281f", "#3b8a8a", "#5d6878")
_MOST = 800  # points of a curve that are drawn


def chart(curves: Mapping[str, Points]) -> str:
    """One chart with a legend.

    Args:
        curves: name -> (x, y) points; those that are not finite leave gaps.
    """
    inside = _inside(curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="max-width:{_WIDTH}px" font-family="sans-serif" font-size="12">{inside}</svg>'
    )


def document(charts: Mapping[str, Mapping[str, Points]]) -> str:
    """Charts below one another, each under its title, as one SVG file."""
    step = _HEIGHT + 30
    parts = [
        f'<g transform="translate(0,{i * step})"><text x="{_LEFT}" y="20" font-size="15">'
        f'{text(title)}</text><g transform="translate(0,28)">{_inside(curves)}</g></g>'
        for i, (title, curves) in enumerate(charts.items())
    ]
    height = step * max(1, len(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _inside(curves: Mapping[str, Points]) -> str:
    kept = {name: _thinned(points) for name, points in curves.items()}
    finite = [p for points in kept.values() for p in points if math.isfinite(p[1])]
    if not finite:
        return f'<text x="{_LEFT}" y="40">no finite value</text>'
    xs, ys = _range([x for x, _ in finite]), _range([y for _, y in finite])
    parts = [*_axis(xs, across=True), *_axis(ys, across=False)]
    for i, (name, points) in enumerate(kept.items()):
        colour, y = _COLOURS[i % len(_COLOURS)], _TOP + 10 + 18 * i
        parts.append(_curve(points, xs, ys, colour))
        x = _WIDTH - _RIGHT + 16
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}" fill="#5d6878">{text(name)}</text>')
    return "".join(parts)


def _thinned(points: Points) -> Points:
    """At most _MOST points: means of equal runs."""
    run = math.ceil(len(points) / _MOST)
    if run <= 1:
        return points
    return [_mean(points[i : i + run]) for i in range(0, len(points), run)]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _x(value: float, span: tuple[float, float]) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - span[0]) / (span[1] - span[0])


def _y(value: float, span: tuple[float, float]) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - span[0]) / (span[1] - span[0])


def _axis(span: tuple[float, float], across: bool) -> list[str]:
    parts = []
    for i in range(5):
        value = span[0] + (span[1] - span[0]) * i / 4
        if across:
            x, y = _x(value, span), _HEIGHT - _BOTTOM + 18
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="#5d6878">')
        else:
            x, y = _LEFT - 8, int(_y(value, span))
            parts.append(
                f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#5d6878" stroke-opacity=".2"/>'
                f'<text x="{x}" y="{y + 4}" text-anchor="end" fill="#5d6878">'
            )
        parts.append(f"{value:.4g}</text>")
    return parts


def _curve(points: Points, xs: tuple[float, float], ys: tuple[float, float], colour: str) -> str:
    """A line through the points; a point alone is a dot."""
    path, pen = "", "M"
    for x, y in points:
        if math.isfinite(y):
            path += f"{pen}{_x(x, xs):.1f} {_y(y, ys):.1f}"
            pen = "L"
        else:
            pen = "M"
    style = f'stroke="{colour}" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"'
    return f'<path d="{path}{"h.01" if len(points) == 1 else ""}" fill="none" {style}/>'


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
        self._loss: dict[str, Points] = defaultdict(list)
        self._rate: dict[str, Points] = defaultdict(list)
        self._others: dict[str, Points] = defaultdict(list)

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
            drawn = [section(title, Html(chart(group))) for title, group in charts.items()]
            text = page("Training", drawn)
        write_text(self._path, text)

    def close(self) -> None:
        """Draws everything, however the training ended."""
        self.saved()
