"""The softmax loss in Triton: a program for each block of pixels, with all classes of a pixel.

Scores are (N, C, P) with any strides. `label` is (N, P) int32, -1 where a pixel does not count.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.losses.feedback import working_dtype
from caffe_port.losses.launching import accumulator, on_device, only_once, power_of_two

# ruff: noqa: N803 - constants are in upper case, as usual in Triton


@triton.jit
def _block(blocks, pixels, BP: tl.constexpr):
    """The image of this program, its pixels, and which of them exist."""
    pid = tl.program_id(0).to(tl.int64)
    p = (pid % blocks) * BP + tl.arange(0, BP)
    return pid // blocks, p, p < pixels


@triton.jit
def softmax_forward(
    scores, label, weights, top, total, sums, counts,
    stride_n, stride_c, stride_p, classes, pixels, blocks,
    BP: tl.constexpr, BC: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr,
    SUM_WEIGHTS: tl.constexpr,
):  # fmt: skip
    """Per program the sums of -w log p and of the weights; per pixel the softmax's two numbers."""
    n, p, inside = _block(blocks, pixels, BP)
    y = tl.load(label + n * pixels + p, mask=inside, other=-1)
    largest = tl.full([BP], float("-inf"), ACC)
    denominator = tl.zeros([BP], ACC)
    own = tl.zeros([BP], ACC)
    counted = y >= 0
    # pixels that do not count are not read, and all their scores are 0
    absent = tl.where(counted, float("-inf"), 0.0)[:, None]
    base = scores + n * stride_n + p[:, None] * stride_p
    for start in range(0, classes, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        mask = counted[:, None] & (c < classes)[None, :]
        x = tl.load(base + c[None, :] * stride_c, mask=mask, other=0.0).to(ACC)
        x = tl.where(mask, x, absent)
        before = largest
        largest = tl.maximum(largest, tl.max(x, 1))
        # a block of only -inf must not give inf - inf
        pivot = tl.where(largest == float("-inf"), 0.0, largest)
        denominator = denominator * tl.exp(before - pivot) + tl.sum(tl.exp(x - pivot[:, None]), 1)
        own += tl.sum(tl.where(c[None, :] == y[:, None], x, 0.0), 1)
    tl.store(top + n * pixels + p, largest, mask=inside)
    tl.store(total + n * pixels + p, denominator, mask=inside)
    weight = counted.to(ACC)
    if WEIGHTED:
        weight = tl.load(weights + y, mask=counted, other=0.0).to(ACC)
    # Caffe's floor, FLT_MIN; NaN stays
    floor = tl.full([BP], 1.1754943508222875e-38, ACC)
    probability = tl.exp(own - largest) / denominator
    probability = tl.where(probability < floor, floor, probability)
    loss = tl.where(counted, -tl.log(probability) * weight, 0.0)
    tl.store(sums + tl.program_id(0), tl.sum(loss))
    tl.store(counts + tl.program_id(0), tl.sum(weight if SUM_WEIGHTS else counted.to(ACC)))


@triton.jit
def softmax_backward(
    scores, label, weights, top, total, factor, out,
    stride_n, stride_c, stride_p, out_n, out_c, out_p, classes, pixels, blocks,
    BP: tl.constexpr, BC: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(p - 1[c = label]) * w * factor, 0 where a pixel does not count."""
    n, p, inside = _block(blocks, pixels, BP)
    y = tl.load(label + n * pixels + p, mask=inside, other=-1)
    counted = y >= 0
    largest = tl.load(top + n * pixels + p, mask=inside, other=0.0)
    denominator = tl.load(total + n * pixels + p, mask=inside, other=1.0)
    weight = counted.to(ACC)
    if WEIGHTED:
        weight = tl.load(weights + y, mask=counted, other=0.0).to(ACC)
    weight = weight * tl.load(factor)
    base = scores + n * stride_n + p[:, None] * stride_p
    target = out + n * out_n + p[:, None] * out_p
    for start in range(0, classes, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        mask = counted[:, None] & (c < classes)[None, :]
        x = tl.load(base + c[None, :] * stride_c, mask=mask, other=0.0).to(ACC)
        probability = tl.exp(x - largest[:, None]) / denominator[:, None]
        one = (c[None, :] == y[:, None]).to(ACC)
        diff = tl.where(counted[:, None], (probability - one) * weight[:, None], 0.0)
        mask = inside[:, None] & (c < classes)[None, :]
        tl.store(target + c[None, :] * out_c, diff, mask=mask)


def block_sizes(classes: int) -> dict[str, int]:
    """Pixels and classes of a block: 1024 scores, so that no register is spilled."""
    at_once = power_of_two(classes, 8, 128)
    return {"BP": 1024 // at_once, "BC": at_once}


def softmax_loss_triton(
    scores: Tensor,
    labels: Tensor,
    ignore_labels: Collection[int],
    normalization: str | float,
    class_weights: Tensor | None,
) -> Tensor:
    """``softmax_loss`` of checked shapes, by one pass over the scores each way.

    Labels are checked here. Scores are not empty. The loss can be differentiated once.
    """
    flat = scores.reshape(*scores.shape[:2], scores.shape[2:].numel())
    labels = labels.reshape(flat.shape[0], flat.shape[2])
    label, counted = checked(labels, flat.shape[1], ignore_labels)
    label = label.masked_fill(~counted, -1).int()
    return _Softmax.apply(flat, label, normalization, class_weights)  # type: ignore[no-any-return,no-untyped-call]


def _divisor(normalization: str | float, scores: Tensor, counts: Tensor) -> Tensor:
    """The divisor of the sum; ``counts``: counted pixels, for 'WEIGHTS' their weights."""
    if not isinstance(normalization, str):
        return torch.full_like(counts, max(normalization, 1))
    if normalization == "WEIGHTS":
        return counts.masked_fill(counts == 0, 1)
    if normalization == "VALID":
        return counts.clamp(min=1)
    items, _, pixels = scores.shape
    sizes = {"FULL": items * pixels, "BATCH_SIZE": items, "NONE": 1}
    return torch.full_like(counts, sizes[normalization])


class _Softmax(torch.autograd.Function):
    """Stores the scores, and per pixel the largest score and the denominator."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, label: Tensor, normalization: str | float, weights: Tensor | None
    ) -> Tensor:
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
