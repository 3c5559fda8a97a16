"""What an update rule is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """Numbers of one update.

    Attributes:
        rate: the learning rate times the parameter's lr_mult.
        momentum, momentum2, delta, rms_decay: of the solver.
        iteration: from 0.
    """

    rate: float
    momentum: float
    momentum2: float
    delta: float
    rms_decay: float
    iteration: int


Update = Callable[[Tensor, Sequence[Tensor], Setting], None]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        update: turns a diff, in place, into what is subtracted from the parameter, and brings the
            parameter's histories up to date.
        histories: how many there are per parameter.
        momentum: whether the rule has one; it is refused where it has not.
    """

    update: Update
    histories: int = 1
    momentum: bool = True


def one_minus(value: float) -> float:
    """1 - value, rounded to float32 as upstream has it."""
    return float(np.float32(1) - np.float32(value))
