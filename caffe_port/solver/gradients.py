"""What happens to gradients between backward and update: clipping, iter_size, weight decay.

Source: BVLC/caffe sgd_solver.cpp, ClipGradients, Normalize, Regularize.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caffe_port.errors import UsageError

_PIECE = 2**17  # numbers; those of a parameter, its diff and its histories fit in a core's cache


def clip(diffs: Sequence[Tensor], limit: float) -> tuple[float, float] | None:
    """Scales all diffs, in place, so that their common L2 norm is at most ``limit``.

    Args:
        diffs: of all learnable parameters, summed over iter_size passes.
        limit: clip_gradients; negative does nothing.
    Returns:
        The norm and the factor where they were scaled, else None.
    """
    if limit < 0:
        return None
    norm = float(torch.stack([diff.flatten().dot(diff.flatten()) for diff in diffs]).sum().sqrt())
    if norm <= limit:
        return None
    for diff in diffs:
        diff.mul_(limit / norm)
    return norm, limit / norm


def regularize(diff: Tensor, data: Tensor, decay: float, kind: str) -> None:
    """Adds weight decay to a diff, in place: ``decay * w`` (L2) or ``decay * sign(w)`` (L1).

    Raises:
        UsageError: another regularization_type.
    """
    if kind not in ("L1", "L2"):
        raise UsageError(f"regularization_type is '{kind}'; expected L1 or L2")
    if decay:
        diff.add_(data if kind == "L2" else data.sign(), alpha=decay)


def in_pieces(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Tensors of equal size cut alike, so that several steps go over each piece while it is near.

    Args:
        tensors: contiguous, of equal size; on a GPU they are one piece.
    Yields:
        Flat views.
    """
    flat = [tensor.view(-1) for tensor in tensors]
    piece = _PIECE if flat[0].device.type == "cpu" else max(len(flat[0]), 1)
    for start in range(0, len(flat[0]), piece):
        yield [tensor[start : start + piece] for tensor in flat]
