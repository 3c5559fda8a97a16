"""Passing over images that are missing or broken, where the user has asked for it, and counting.

Without it such an image ends the run with its name and its line in the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class PassedOver:
    """The bad images of a run.

    Args:
        tell: is given what is wrong with an image when it is met for the first time.
    Attributes:
        times: what was wrong -> how often it was met.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self.times = tell, Counter[str]()

    def note(self, wrong: str) -> None:
        """Counts an image that cannot be used."""
        self.times[wrong] += 1
        if self.times[wrong] == 1:
            self._tell(wrong)

    def summary(self) -> str:
        """How many images were passed over and how often."""
        return f"{len(self.times)} bad images were passed over, {self.times.total()} times in all."


_current: ContextVar[PassedOver | None] = ContextVar("passed_over", default=None)


@contextmanager
def passing_over(tell: Callable[[str], None]) -> Iterator[PassedOver]:
    """Lists and window files opened inside take the next entry for one that cannot be used."""
    passed = PassedOver(tell)
    token = _current.set(passed)
    try:
        yield passed
    finally:
        _current.reset(token)


def current() -> PassedOver | None:
    """Where lists that are opened now note bad images; None where these are errors."""
    return _current.get()
