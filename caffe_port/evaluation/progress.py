"""Shows how far an evaluation is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from caffe_port.errors import console, echo
from caffe_port.evaluation.worker import Outcome, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

_WINDOW = 60.0  # seconds whose images give the speed, so that reused ones are soon forgotten
_SILENT = 60.0  # seconds after which a log gets a line, whatever was done


class Pace:
    """Images per second of the last minute, and when all will be done.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def words(self, done: int, total: int, now: datetime | None = None) -> str:
        """What there is to tell after ``done`` images, such as "1.42 images/s, ends 14:05:31".

        Args:
            now: the time of day to count from.
        """
        seconds = self._clock()
        self._seen.append((seconds, done))
        while len(self._seen) > 2 and self._seen[0][0] < seconds - _WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        if seconds <= began or done <= before:
            return ""
        speed = (done - before) / (seconds - began)
        figure = f"{speed:.2f} images/s"
        if done >= total:
            return figure
        end = (now or datetime.now()) + timedelta(seconds=(total - done) / speed)
        day = end.strftime("%H:%M:%S") if speed * 86400 > total - done else f"{end:%d %b %H:%M}"
        return f"{figure}, ends {day}"


@contextmanager
def shown_progress(title: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Gives the ``progress`` argument of ``evaluate``.

    Args:
        title: what is being done.
        quiet: show nothing, as in all processes but one.
    """
    if quiet:
        yield lambda done, total, outcome: None
        return
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as ProgressBar

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with ProgressBar(*columns, console=console(stderr=True), transient=True) as bar:
        yield _Bar(bar, title)


class _Bar:
    def __init__(self, bar: ProgressBar, title: str) -> None:
        self._bar, self._pace = bar, Pace()
        self._task = bar.add_task(title, total=None, pace="")

    def __call__(self, done: int, total: int, outcome: Outcome) -> None:
        pace = self._pace.words(done, total)
        self._bar.update(self._task, completed=done, total=total, pace=pace)
        for line in _told(outcome):
            self._bar.console.print(line)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title, self._pace = title, Pace()
        self._told, self._last = 0, time.monotonic()

    def __call__(self, done: int, total: int, outcome: Outcome) -> None:
        for line in _told(outcome):
            echo(line, err=True)
        pace, now = self._pace.words(done, total), time.monotonic()
        if 10 * (done - self._told) >= total or done == total or now - self._last > _SILENT:
            self._told, self._last = done, now
            words = [f"{done} of {total} images", *([pace] if pace else [])]
            echo(f"{self._title}: {', '.join(words)}", err=True)


def _told(outcome: Outcome) -> list[str]:
    skipped = [f"skipped: {outcome.error}"] if outcome.error else []
    return [*skipped, *([outcome.remark] if outcome.remark else [])]
