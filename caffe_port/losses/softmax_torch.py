"""Caffe's softmax loss in torch: the reference, and the path on the CPU."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from caffe_port.labels import checked, divisor
from caffe_port.losses.feedback_torch import working_dtype

_FLT_MIN = torch.finfo(torch.float32).tiny


class _CrossEntropy(torch.autograd.Function):
    """sum over counted positions of -w log p[label], times ``factor``.

    p is floored at FLT_MIN before the logarithm, while the diff is p - 1 all the same; autograd
    through a clamp would give 0 there. The diff can be differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, counted: Tensor, weight: Tensor, factor: Tensor
    ) -> Tensor:
        # not the probabilities: a second derivative would take them for constants
        ctx.save_for_backward(scores, label, counted, weight, factor)
        picked = torch.softmax(scores, 1).gather(1, label[:, None]).squeeze(1)
        each = -picked.clamp(min=_FLT_MIN).log() * weight
        # scores may be NaN where they do not count
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
    normalization: str,
    class_weights: Tensor | None,
) -> Tensor:
    """softmax_loss of caffe_port.losses, of checked shapes; labels are checked here."""
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
