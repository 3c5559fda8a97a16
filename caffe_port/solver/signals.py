"""What SIGINT and SIGHUP ask of a training: to stop, to save, or nothing.

Source: BVLC/caffe util/signal_handler.cpp.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from caffe_port.errors import UsageError

EFFECTS = ("none", "snapshot", "stop")  # the later goes over the earlier


class Requests:
    """What was asked for and not yet done.

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
        """The effect of a signal that came since, SIGINT's first; 'none' without one."""
        for number, effect in self._effects.items():
            if number in self._came:
                self._came.discard(number)
                return effect
        return "none"

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.add(signal.Signals(number))

    @contextmanager
    def listening(self) -> Iterator[Requests]:
        """Takes the signals over; afterwards they do what they did before."""
        before = {number: signal.signal(number, self._note) for number in self._effects}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
