"""Scores by class, as the losses over labelled positions take them."""

from __future__ import annotations

import math

from torch import Tensor


def by_class(scores: Tensor, axis: int) -> Tensor:
    """Scores as (outer, C, inner): what lies before the class axis, the classes, what follows."""
    axis %= scores.dim()
    outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
    return scores.reshape(outer, scores.shape[axis], inner)
