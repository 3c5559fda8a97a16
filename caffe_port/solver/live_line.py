"""One line at the foot of a terminal that says how a training goes."""

from __future__ import annotations

import datetime
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from caffe_port.solver.log import calling_before
from caffe_port.solver.watching import Step

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
