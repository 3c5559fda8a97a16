"""Scores as the losses and Accuracy take them: by class, or one vector per item."""

from __future__ import annotations

import math

from torch import Tensor


def by_item(x: Tensor) -> Tensor:
    """(N, values of an item), also of a blob with one axis, whose items have one value."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def by_class(scores: Tensor, axis: int) -> Tensor:
    """Scores as (outer, C, inner): what lies before the class axis, the classes, what follows."""
    axis %= scores.dim()
    outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
    return scores.reshape(outer, scores.shape[axis], inner)
