"""The softmax loss through its kernels: one pass over the scores each way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.losses.feedback_torch import working_dtype
from caffe_port.losses.launching import accumulator, on_device, only_once, power_of_two


def block_sizes(classes: int) -> dict[str, int]:
    """Pixels and classes of a block: 1024 scores, so that no register is spilled."""
    at_once = power_of_two(classes, 8, 128)
    return {"BP": 1024 // at_once, "BC": at_once}


def softmax_loss_triton(
    scores: Tensor,
    labels: Tensor,
    ignore_labels: Collection[int],
    normalization: str,
    class_weights: Tensor | None,
) -> Tensor:
    """softmax_loss of caffe_port.losses, by kernel, of checked shapes; labels are checked here.

    Scores are not empty. The loss can be differentiated once.
    """
    flat = scores.reshape(*scores.shape[:2], scores.shape[2:].numel())
    labels = labels.reshape(flat.shape[0], flat.shape[2])
    label, counted = checked(labels, flat.shape[1], ignore_labels)
    label = label.masked_fill(~counted, -1).int()
    return _Softmax.apply(flat, label, normalization, class_weights)  # type: ignore[no-any-return,no-untyped-call]


def _divisor(normalization: str, scores: Tensor, counts: Tensor) -> Tensor:
    """What the sum is divided by; ``counts``: counted pixels, for 'WEIGHTS' their weights."""
    if normalization == "WEIGHTS":
        return counts.masked_fill(counts == 0, 1)
    if normalization == "VALID":
        return counts.clamp(min=1)
    items, _, pixels = scores.shape
    sizes = {"FULL": items * pixels, "BATCH_SIZE": items, "NONE": 1}
    return torch.full_like(counts, sizes[normalization])


class _Softmax(torch.autograd.Function):
    """Keeps two numbers per pixel, the largest score and the denominator, and the scores."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, normalization: str, weights: Tensor | None
    ) -> Tensor:
        from caffe_port.losses.softmax_kernels import softmax_forward

        items, classes, pixels = scores.shape
        sizes = block_sizes(classes)
        blocks = -(-pixels // sizes["BP"])
        dtype = working_dtype(scores.dtype)
        top, total = scores.new_empty(2, items, pixels, dtype=dtype)
        sums, counts = scores.new_empty(2, items * blocks, dtype=dtype)
        table = scores if weights is None else weights.contiguous()
        ctx.settings = {
            **sizes, "WEIGHTED": weights is not None, "ACC": accumulator(scores.dtype)
        }  # fmt: skip
        with on_device(scores):
            softmax_forward[(items * blocks,)](
                scores, label, table, top, total, sums, counts, *scores.stride(),
                classes, pixels, blocks, **ctx.settings, SUM_WEIGHTS=normalization == "WEIGHTS",
            )  # fmt: skip
        ctx.blocks = blocks
        divisor = _divisor(normalization, scores, counts.sum())
        ctx.save_for_backward(scores, label, table, top, total, divisor)
        loss: Tensor = sums.sum() / divisor
        return loss

    @staticmethod
    def backward(ctx: Any, diff: Tensor) -> tuple[Tensor | None, ...]:
        from caffe_port.losses.softmax_kernels import softmax_backward

        scores, label, table, top, total, divisor = ctx.saved_tensors
        items, classes, pixels = scores.shape
        out = torch.empty_like(scores)
        factor = diff.to(divisor.dtype) / divisor
        with on_device(scores):
            softmax_backward[(items * ctx.blocks,)](
                scores, label, table, top, total, factor, out, *scores.stride(), *out.stride(),
                classes, pixels, ctx.blocks, **ctx.settings,
            )  # fmt: skip
        return only_once(out, scores, diff), None, None, None
