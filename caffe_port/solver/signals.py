"""Signals, and what a caller may watch of a training."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from caffe_port.errors import UsageError

# What SIGINT and SIGHUP ask of a training: to stop, to save, or nothing.
#
# Source: BVLC/caffe util/signal_handler.cpp.

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


# Who is told how a training goes: the live line, the curves, TensorBoard.


@dataclass(frozen=True)
class Step:
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
    """Is told what happens."""

    def step(self, step: Step) -> None:
        """An update was made."""

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """A net's outputs were logged.

        Args:
            what: 'train', or 'test' and the test net's number where there are several.
            iteration: how many updates were made.
            values: output -> value; elements of an output that has several are `name[0]` and so on.
        """

    def saved(self) -> None:
        """A snapshot was written."""


def named(values: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Names for (output, element)."""
    counts: dict[str, int] = {}
    for name, _ in values:
        counts[name] = counts.get(name, 0) + 1
    return {
        f"{name}[{i}]" if counts[name] > 1 else name: value for (name, i), value in values.items()
    }
