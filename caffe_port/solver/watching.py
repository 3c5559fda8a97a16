"""Who is told how a training goes: the live line, the curves, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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
