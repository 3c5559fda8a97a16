"""Caffe's softmax loss, in torch or by one fused kernel.

The implementation in torch is the reference, and runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from caffe_port.labels import checked, divisor
from caffe_port.losses.feedback import chosen_path, working_dtype

_FLT_MIN = torch.finfo(torch.float32).tiny


class _CrossEntropy(torch.autograd.Function):
    """sum over counted positions of -w log p[label], times ``factor``.

    p is floored at FLT_MIN before the logarithm, but the diff stays p - 1, where autograd through
    a clamp would give 0. The diff can be differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, counted: Tensor, weight: Tensor, factor: Tensor
    ) -> Tensor:
        # not the probabilities: a second derivative would treat them as constants
        ctx.save_for_backward(scores, label, counted, weight, factor)
        picked = torch.softmax(scores, 1).gather(1, label[:, None]).squeeze(1)
        each = -picked.clamp(min=_FLT_MIN).log() * weight
        # scores of pixels that do not count may be NaN
        return each.masked_fill(~counted, 0).sum() * factor

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        scores, label, counted, weight, factor = ctx.saved_tensors
        prob = torch.softmax(scores, 1)
        one = torch.zeros_like(prob).scatter_(1, label[:, None], 1.0)
        diff = (prob - one) * (weight * factor * diffs[0])[:, None]
        return diff.masked_fill(~counted[:, None], 0), None, None, None, None


def softmax_loss_torch(
    scores: Tensor,
    labels: Tensor,
    ignore_labels: Collection[int],
    normalization: str | float,
    class_weights: Tensor | None,
) -> Tensor:
    """``softmax_loss`` of checked shapes; labels are checked here."""
    scores = scores.to(working_dtype(scores.dtype))
    label = labels.reshape(scores.shape[0], *scores.shape[2:])
    label, counted = checked(label, scores.shape[1], ignore_labels)
    weight = counted.to(scores.dtype)
    if class_weights is not None:
        weight = weight * class_weights.to(scores.dtype)[label]
    if normalization == "WEIGHTS":
        # v1 divides by 0 where nothing counts and gives NaN
        total = weight.sum().masked_fill(weight.sum() == 0, 1)
    else:
        total = divisor(normalization, counted, scores)
    return _CrossEntropy.apply(scores, label, counted, weight, 1 / total)  # type: ignore[no-any-return,no-untyped-call]


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NORMALIZATIONS = ("VALID", "FULL", "BATCH_SIZE", "NONE", "WEIGHTS")


def softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    ignore_labels: Collection[int] = (),
    normalization: str | float = "VALID",
    class_weights: Tensor | None = None,
    path: str = "auto",
) -> Tensor:
    """Caffe's softmax and multinomial logistic loss in one.

    Args:
        scores: (N, C, ...) float16, bfloat16, float32 or float64.
        labels: (N, ...) or (N, 1, ...) of whole numbers, any dtype.
        ignore_labels: labels that do not count.
        normalization: the divisor of the sum: 'VALID' counted positions, 'FULL' all positions,
            'BATCH_SIZE' N, 'NONE' 1, or a number, each at least 1; 'WEIGHTS' the sum of the class
            weights of the counted positions (DeepLab v1), where no counted position gives 0.
        class_weights: (C,) on the scores' device: factors of the positions by their labels.
        path: 'torch', 'triton', or 'auto': Triton for CUDA tensors where it is installed.
    Returns:
        A scalar: float64 for float64 scores, else float32.
    Raises:
        ValueError: shapes, dtypes or devices that do not match, or a label that is neither ignored
            nor in [0, C).
        UsageError: the path cannot run here.
    Source: BVLC/caffe softmax_loss_layer.cpp; DeepLab v1 softmax_loss_layer.cpp.
    Examples:
        >>> import torch
        >>> from caffe_port.losses import softmax_loss
        >>> labels = torch.tensor([[[0, 255], [1, 1]]])
        >>> round(softmax_loss(torch.zeros(1, 4, 2, 2), labels, ignore_labels=[255]).item(), 4)
        1.3863
    """
    _check(scores, labels, normalization, class_weights)
    if chosen_path(path, scores) == "torch" or scores.numel() == 0:
        return softmax_loss_torch(scores, labels, ignore_labels, normalization, class_weights)
    from caffe_port.losses.softmax_triton import softmax_loss_triton

    return softmax_loss_triton(scores, labels, ignore_labels, normalization, class_weights)


def _check(
    scores: Tensor, labels: Tensor, normalization: str | float, class_weights: Tensor | None
) -> None:
    """Checks shapes, dtypes and devices before anything runs."""
    if scores.dim() < 2 or scores.shape[1] == 0 or scores.dtype not in _DTYPES:
        raise ValueError(
            f"scores of shape {tuple(scores.shape)}, {scores.dtype}; expected (N, C, ...), C > 0, "
            f"of one of {_DTYPES}"
        )
    grid = (scores.shape[0], *scores.shape[2:])
    if tuple(labels.shape) not in (grid, (grid[0], 1, *grid[1:])):
        raise ValueError(f"labels of shape {tuple(labels.shape)}; expected {grid}")
    if isinstance(normalization, str) and normalization not in _NORMALIZATIONS:
        raise ValueError(f"normalization {normalization!r}; expected one of {_NORMALIZATIONS}")
    blobs = [scores, labels]
    if class_weights is not None:
        blobs.append(class_weights)
        if tuple(class_weights.shape) != (scores.shape[1],):
            found = tuple(class_weights.shape)
            raise ValueError(f"class_weights of shape {found}; expected ({scores.shape[1]},)")
    if len({blob.device for blob in blobs}) > 1:
        raise ValueError("scores, labels and class_weights are on several devices; expected one")
