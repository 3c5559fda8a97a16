"""Shows how far a run is: one line, written over in a terminal, repeated at times elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

from tools.differential.outcomes import Outcome

_PAUSE = 30.0  # seconds between two lines of a log


class Progress:
    """Called with every outcome.

    Args:
        done: results there were before.
        total: cases of the run.
    """

    def __init__(self, done: int, total: int) -> None:
        self._start, self._done, self._total = done, done, total
        self._differ = 0
        self._began = self._last = time.monotonic()
        self._over = sys.stderr.isatty()

    def __call__(self, outcome: Outcome) -> None:
        self._done += 1
        self._differ += not outcome.good
        if not outcome.good:
            self._print(f"{outcome.index} {outcome.kind} {outcome.type}: {outcome.status}")
        now = time.monotonic()
        if self._over or now - self._last > _PAUSE or self._done == self._total:
            self._last = now
            self._print(self._line(now - self._began), over=self._over)

    def _line(self, seconds: float) -> str:
        speed = (self._done - self._start) / max(seconds, 1e-3)
        end = datetime.now() + timedelta(seconds=(self._total - self._done) / speed)
        return (
            f"{self._done} of {self._total} cases, {self._differ} differ, {speed:.1f}/s, "
            f"ends {end:%H:%M:%S}"
        )

    def _print(self, line: str, over: bool = False) -> None:
        start = "\r\033[K" if self._over else ""
        print(start + line, end="" if over else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line that is written over."""
        if self._over:
            print(file=sys.stderr)
