"""Flat indices and coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def coordinates(points: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """One tensor per axis of what flat indices into a blob of that shape mean."""
    result = []
    for size in reversed(shape):
        result.append(points % size)
        points = points // size
    return tuple(result[::-1])


def flat(axes: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Flat indices of coordinates; they broadcast against one another."""
    total = axes[0]
    for axis, size in zip(axes[1:], shape[1:], strict=True):
        total = total * size + axis
    return total


def every(points: Tensor) -> Tensor:
    """A link's source when each point goes to one place."""
    return torch.arange(len(points), device=points.device)
