"""How far a long command is and when it will end: bars in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from caffe_port.errors import console, echo, printable

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

#: Images done, images in all, lines to print.
Report = Callable[[int, int, Sequence[str]], None]

_WINDOW = 60.0  # seconds over which the rate is measured, so that reused results soon drop out
_SILENT = 60.0  # seconds after which a log gets a line of images, whatever was done
_PAUSE = 30.0  # seconds between two lines of runs
_TRAINING = 0.85  # share of a run's time that its training is expected to take


class Throughput:
    """Items per second over the latest updates.

    Args:
        clock: seconds.
        updates: how many of the latest updates count; by default those of the last minute.
    Attributes:
        now: the clock at the latest update.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, updates: int | None = None
    ) -> None:
        self._clock, self.now = clock, 0.0
        self._window = _WINDOW if updates is None else float("inf")
        self._updates: deque[tuple[float, int]] = deque(maxlen=updates and updates + 1)

    def rate(self, done: int) -> float | None:
        """Notes how many items are done; None while the rate is unknown."""
        now, updates = self._clock(), self._updates
        self.now = now
        updates.append((now, done))
        while len(updates) > 2 and updates[0][0] < now - self._window:
            updates.popleft()
        began, before = updates[0]
        return (done - before) / (now - began) if now > began and done > before else None


def end_text(seconds: float, now: datetime | None = None) -> str:
    """The time of day after so many seconds, with the date where that is another day.

    Args:
        now: the time of day to count from.
    Examples:
        >>> end_text(3 * 86400, datetime(2020, 5, 17, 12, 0))
        '20 May 12:00'
    """
    now = now or datetime.now()
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M:%S}" if end.date() == now.date() else f"{end:%d %b %H:%M}"


class ImageRate:
    """The rate of a command that works on a list of images, as text.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._throughput = Throughput(clock)
        self._throughput.rate(0)

    def text(self, done: int, total: int, now: datetime | None = None) -> str:
        """Such as "1.42 images/s, ends 14:05:31"; "" while the rate is unknown.

        Args:
            now: the time of day to count from.
        """
        rate = self._throughput.rate(done)
        if rate is None:
            return ""
        figure = f"{rate:.2f} images/s"
        return figure if done >= total else f"{figure}, ends {end_text((total - done) / rate, now)}"


@contextmanager
def shown_images(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """Gives a function that shows the progress of a list of images on standard error.

    Args:
        title: what is being done.
        quiet: show nothing, as in all processes but one.
    """
    if quiet:
        yield lambda done, total, lines: None
        return
    if not sys.stderr.isatty():
        yield _ImageLines(title)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield _ImageBar(bar, title)


class _ImageBar:
    def __init__(self, bar: ProgressBar, title: str) -> None:
        self._bar, self._rate = bar, ImageRate()
        self._task = bar.add_task(title, total=None, rate="")

    def __call__(self, done: int, total: int, lines: Sequence[str]) -> None:
        rate = self._rate.text(done, total)
        self._bar.update(self._task, completed=done, total=total, rate=rate)
        for line in lines:
            self._bar.console.print(line)


class _ImageLines:
    """A line for every tenth of the images, or after a minute."""

    def __init__(self, title: str) -> None:
        self._title, self._rate = title, ImageRate()
        self._shown, self._last = 0, time.monotonic()

    def __call__(self, done: int, total: int, lines: Sequence[str]) -> None:
        for line in lines:
            echo(line, err=True)
        rate, now = self._rate.text(done, total), time.monotonic()
        if 10 * (done - self._shown) >= total or done == total or now - self._last > _SILENT:
            self._shown, self._last = done, now
            parts = [f"{done} of {total} images", *([rate] if rate else [])]
            echo(f"{self._title}: {', '.join(parts)}", err=True)


class RunsEstimate:
    """How much of several training runs is done, and the time that the rest will take.

    Args:
        runs: how many there are.
        clock: seconds.
    """

    def __init__(self, runs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = [0.0] * runs
        self._clock, self._started = clock, clock()
        self._first: list[float | None] = [None] * runs
        self._done: set[int] = set()

    def update(self, run: int, part: float) -> None:
        """Notes how far a run is: 0 to 1 while it trains, 1 to 2 while it is scored."""
        if run in self._done:
            return  # a message of its process that came late
        done = _TRAINING * min(part, 1) + (1 - _TRAINING) * max(part - 1, 0)
        if self._first[run] is None:
            # what an earlier call did took none of this one's time
            self._first[run] = done
        self._parts[run] = done

    def done(self, run: int) -> None:
        """Notes that a run is finished."""
        if self._first[run] is None:
            self._first[run] = 1.0
        self._parts[run] = 1.0
        self._done.add(run)

    def is_done(self, run: int) -> bool:
        """Whether a run is finished."""
        return run in self._done

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return len(self._done)

    @property
    def part(self) -> float:
        """The part of all runs that is done, 0 to 1."""
        return sum(self._parts) / max(1, len(self._parts))

    def seconds_left(self) -> float | None:
        """The time that the rest will take; None as long as nothing was done."""
        now = sum(
            part - first for part, first in zip(self._parts, self._first, strict=True)
            if first is not None
        )  # fmt: skip
        if now <= 0:
            return None
        return (len(self._parts) - sum(self._parts)) * (self._clock() - self._started) / now

    def text(self) -> str:
        """The expected end."""
        if self.finished == len(self._parts):
            return "all done"
        left = self.seconds_left()
        if left is None:
            return "expected end unknown yet"
        return f"expected end {end_text(left)}, in {timedelta(seconds=round(left))}"


class RunLines:
    """Prints now and then, to a stream that is not a terminal, how far the runs are."""

    def __init__(self, estimate: RunsEstimate, runs: int, stream: TextIO) -> None:
        self._estimate, self._runs, self._stream = estimate, runs, stream
        self._last = float("-inf")
        self._lock = threading.Lock()

    def update(self, run: int, what: str, part: float) -> None:
        """Shows what a run does and how far it is, see ``RunsEstimate.update``."""
        with self._lock:
            self._estimate.update(run, part)
            if time.monotonic() - self._last >= _PAUSE:
                self._print(f"; {what}")

    def done(self, run: int) -> None:
        """Shows that a run is finished."""
        with self._lock:
            self._estimate.done(run)
            self._print("")

    def _print(self, what: str) -> None:
        self._last = time.monotonic()
        done = f"{self._estimate.finished} of {self._runs} runs"
        print(printable(f"{done}{what}; {self._estimate.text()}"), file=self._stream, flush=True)


class RunBars:
    """One bar for all runs, and one for each that is in progress."""

    def __init__(self, estimate: RunsEstimate, runs: int, bar: Any) -> None:
        self._estimate, self._bar, self._runs = estimate, bar, runs
        self._all = bar.add_task("", total=1.0)
        self._tasks: dict[int, Any] = {}
        self._lock = threading.Lock()

    def update(self, run: int, what: str, part: float) -> None:
        """Shows what a run does and how far it is, see ``RunsEstimate.update``."""
        with self._lock:
            self._estimate.update(run, part)
            if self._estimate.is_done(run):
                return
            if run not in self._tasks:
                self._tasks[run] = self._bar.add_task(printable(what), total=2.0)
            self._bar.update(self._tasks[run], completed=part, description=printable(what))
            self._show()

    def done(self, run: int) -> None:
        """Shows that a run is finished."""
        with self._lock:
            self._estimate.done(run)
            if run in self._tasks:
                self._bar.remove_task(self._tasks.pop(run))
            self._show()

    def _show(self) -> None:
        text = f"{self._estimate.finished} of {self._runs} runs; {self._estimate.text()}"
        self._bar.update(self._all, completed=self._estimate.part, description=text)


@contextmanager
def shown_runs(runs: int) -> Iterator[RunLines | RunBars]:
    """Shows the progress of so many runs on standard error as it is at this moment."""
    stream, estimate = sys.stderr, RunsEstimate(runs)
    if not stream.isatty():
        yield RunLines(estimate, runs, stream)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    # the stream itself: during a run sys.stderr is its log
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console(file=stream), transient=True) as bar:
        yield RunBars(estimate, runs, bar)
