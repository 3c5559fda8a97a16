"""How far an experiment is and when it will end: bars in a terminal, else a line now and then."""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from caffe_port.errors import console, printable

_TRAINING = 0.85  # the part of a run's time that its training is taken for
_PAUSE = 30.0  # seconds between two lines


class Estimate:
    """How much of all runs is done, and the time that the rest will take.

    Args:
        runs: how many there are.
        clock: seconds.
    """

    def __init__(self, runs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = [0.0] * runs
        self._clock, self._started = clock, clock()
        self._first: list[float | None] = [None] * runs
        self._done: set[int] = set()

    def tell(self, run: int, part: float) -> None:
        """A run is so far: 0 to 1 while it trains, 1 to 2 while it scores."""
        if run in self._done:
            return  # a process's word that came late
        done = _TRAINING * min(part, 1) + (1 - _TRAINING) * max(part - 1, 0)
        if self._first[run] is None:
            # what an earlier call did took none of this one's time
            self._first[run] = done
        self._parts[run] = done

    def done(self, run: int) -> None:
        """A run is finished."""
        if self._first[run] is None:
            self._first[run] = 1.0
        self._parts[run] = 1.0
        self._done.add(run)

    def is_done(self, run: int) -> bool:
        """Whether it is finished."""
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
        """None as long as nothing was done."""
        now = sum(
            part - first for part, first in zip(self._parts, self._first, strict=True)
            if first is not None
        )  # fmt: skip
        if now <= 0:
            return None
        return (len(self._parts) - sum(self._parts)) * (self._clock() - self._started) / now

    def words(self) -> str:
        """The expected end."""
        if self.finished == len(self._parts):
            return "all done"
        left = self.seconds_left()
        if left is None:
            return "expected end unknown yet"
        end = datetime.datetime.now() + datetime.timedelta(seconds=left)
        day = "" if end.date() == datetime.date.today() else f"{end:%a} "
        return f"expected end {day}{end:%H:%M:%S}, in {datetime.timedelta(seconds=round(left))}"


class Lines:
    """Says now and then, on a stream that is no terminal, how it goes."""

    def __init__(self, estimate: Estimate, runs: int, stream: TextIO) -> None:
        self._estimate, self._runs, self._stream = estimate, runs, stream
        self._said = float("-inf")
        self._lock = threading.Lock()

    def tell(self, run: int, what: str, part: float) -> None:
        with self._lock:
            self._estimate.tell(run, part)
            if time.monotonic() - self._said >= _PAUSE:
                self._say(f"; {what}")

    def done(self, run: int) -> None:
        with self._lock:
            self._estimate.done(run)
            self._say("")

    def _say(self, what: str) -> None:
        self._said = time.monotonic()
        done = f"{self._estimate.finished} of {self._runs} runs"
        print(printable(f"{done}{what}; {self._estimate.words()}"), file=self._stream, flush=True)


class Bars:
    """One bar for all runs, and a line for each that is at work."""

    def __init__(self, estimate: Estimate, runs: int, bar: Any) -> None:
        self._estimate, self._bar, self._runs = estimate, bar, runs
        self._all = bar.add_task("", total=1.0)
        self._tasks: dict[int, Any] = {}
        self._lock = threading.Lock()

    def tell(self, run: int, what: str, part: float) -> None:
        with self._lock:
            self._estimate.tell(run, part)
            if self._estimate.is_done(run):
                return
            if run not in self._tasks:
                self._tasks[run] = self._bar.add_task(printable(what), total=2.0)
            self._bar.update(self._tasks[run], completed=part, description=printable(what))
            self._show()

    def done(self, run: int) -> None:
        with self._lock:
            self._estimate.done(run)
            if run in self._tasks:
                self._bar.remove_task(self._tasks.pop(run))
            self._show()

    def _show(self) -> None:
        words = f"{self._estimate.finished} of {self._runs} runs; {self._estimate.words()}"
        self._bar.update(self._all, completed=self._estimate.part, description=words)


@contextmanager
def shown(runs: int) -> Iterator[Lines | Bars]:
    """Shows the progress of so many runs on standard error, as it is now."""
    stream, estimate = sys.stderr, Estimate(runs)
    if not stream.isatty():
        yield Lines(estimate, runs, stream)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    # the stream itself: while a run is at work sys.stderr is its log
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console(file=stream), transient=True) as bar:
        yield Bars(estimate, runs, bar)
