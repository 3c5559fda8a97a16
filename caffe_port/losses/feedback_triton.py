"""The feedback losses by their Triton kernels.

    rate      one pass over the scores: each pixel's own score, and whether it is predicted right
    choose    over these two numbers per pixel: each pixel's share in its class's template
    gather    reads the chosen pixels' vectors: the templates
    similar   one pass over the features: norms, similarities, both terms
    template_gradients   only where templates have a gradient: one more pass over the features
    feature_gradients    one pass over the features: their gradient

All sums are taken in a fixed order, so that a result is reproducible bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_port.losses.feedback import FeedbackOptions, coefficients, unit, working_dtype
from caffe_port.losses.launching import accumulator, on_device, only_once

# pixels, channels and classes of a block, and the limit of registers of a thread where the
# compiler would spill without it; none is spilled with these (ahead_of_time.py)
BLOCKS = {
    "rate": {"BP": 32, "BC": 32},
    "choose": {"BP": 512},
    "gather": {"BP": 32, "BD": 32},
    "similar": {"BP": 16, "BD": 16, "BC": 32, "maxnreg": 168},
    "template_gradients": {"BP": 32, "BD": 32, "BC": 32},
    "feature_gradients": {"BP": 32, "BD": 32, "BC": 32},
}


def feedback_triton(
    features: Tensor, label: Tensor, scores: Tensor, options: FeedbackOptions
) -> Tensor:
    """The loss of checked input, as feedback_torch defines it.

    Args:
        features: (N, D, P) float, any strides, not empty.
        label: (N, P) in [0, C), or -1 where a pixel does not count.
        scores: (N, C, P) float without gradient, any strides.
    Returns:
        A scalar, float64 for float64 features, else float32. It can be differentiated once.
    """
    return _Feedback.apply(features, label.int().contiguous(), scores, options)  # type: ignore[no-any-return,no-untyped-call]


@dataclass(frozen=True)
class _Sizes:
    items: int
    classes: int
    channels: int
    pixels: int

    @property
    def words(self) -> int:
        """Words with a bit per class."""
        return -(-self.classes // 32)

    def pixel_blocks(self, kernel: str) -> int:
        """Blocks of pixels of all images."""
        return self.items * -(-self.pixels // BLOCKS[kernel]["BP"])

    def channel_blocks(self, kernel: str) -> int:
        """Blocks of the channels of a pixel."""
        return -(-self.channels // BLOCKS[kernel]["BD"])


def _templates(
    features: Tensor, label: Tensor, scores: Tensor, sizes: _Sizes, options: FeedbackOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """share (N, P), counts (N, C) and the templates before normalization (N, C, D)."""
    from caffe_port.losses import feedback_kernels as kernels

    dtype = working_dtype(features.dtype)
    own = torch.empty(label.shape, dtype=working_dtype(scores.dtype), device=label.device)
    right = torch.empty(label.shape, dtype=torch.int8, device=label.device)
    share = torch.zeros(label.shape, dtype=dtype, device=label.device)
    counts = share.new_empty(sizes.items, sizes.classes)
    templates = share.new_empty(sizes.items, sizes.classes, sizes.channels)
    rated = accumulator(scores.dtype)
    kernels.rate[(sizes.pixel_blocks("rate"),)](
        scores, label, own, right, *scores.stride(), sizes.classes, sizes.pixels,
        **BLOCKS["rate"], ACC=rated,
    )  # fmt: skip
    kernels.choose[(sizes.items * sizes.classes,)](
        own, right, label, share, counts, sizes.classes, sizes.pixels, options.most,
        **BLOCKS["choose"], CORRECT_ONLY=options.correct_only, MEAN=options.most == 0, ACC=rated,
    )  # fmt: skip
    kernels.gather[(sizes.items * sizes.classes * sizes.channel_blocks("gather"),)](
        features, label, share, templates, *features.stride(), sizes.classes, sizes.channels,
        sizes.pixels, **BLOCKS["gather"], ACC=accumulator(features.dtype),
    )  # fmt: skip
    return share, counts, templates


class _Feedback(torch.autograd.Function):
    """Stores the features, the templates, and per pixel 3 numbers (4: correlation) and C bits."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, label: Tensor, scores: Tensor, options: FeedbackOptions
    ) -> Tensor:
        from caffe_port.losses.feedback_kernels import similar

        sizes = _Sizes(features.shape[0], scores.shape[1], *features.shape[1:])
        with on_device(features):
            share, counts, raw = _templates(features, label, scores, sizes, options)
            templates = unit(raw, 2, options)
            pull, push = (each.contiguous() for each in coefficients(counts, options))
            mean, norm, d_sums = raw.new_empty(3, *label.shape)
            words = label.new_empty(sizes.items, sizes.words, sizes.pixels)
            losses = raw.new_empty(sizes.pixel_blocks("similar"))
            similar[losses.shape](
                features, label, templates, counts, pull, push, losses, mean, norm, d_sums, words,
                *features.stride(), sizes.classes, sizes.channels, sizes.pixels, sizes.words,
                **_settings("similar", features, options), MARGIN=options.margin, EPS=options.eps,
            )  # fmt: skip
        ctx.sizes, ctx.options = sizes, options
        kept = (features, label, templates, pull, push, mean, norm, d_sums, words, share, raw)
        ctx.save_for_backward(*kept)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, diff: Tensor) -> tuple[Tensor | None, ...]:
        from caffe_port.losses.feedback_kernels import feature_gradients

        features, *kept, share, raw = ctx.saved_tensors
        sizes, options = ctx.sizes, ctx.options
        out = torch.empty_like(features)
        kernel = "feature_gradients"
        with on_device(features):
            d_template = raw
            if not options.detach:
                d_template = _template_gradient(features, kept, raw, sizes, options)
            blocks = sizes.pixel_blocks(kernel) * sizes.channel_blocks(kernel)
            feature_gradients[(blocks,)](
                features, *kept, share, d_template, diff.to(raw.dtype).contiguous(), out,
                *features.stride(), *out.stride(), sizes.classes, sizes.channels, sizes.pixels,
                sizes.words, **_settings(kernel, features, options), LEARNED=not options.detach,
            )  # fmt: skip
        return only_once(out, features, diff), None, None, None


def _template_gradient(
    features: Tensor, kept: list[Tensor], raw: Tensor, sizes: _Sizes, options: FeedbackOptions
) -> Tensor:
    """The loss's gradient with respect to the templates before normalization, (N, C, D)."""
    from caffe_port.losses.feedback_kernels import template_gradients

    label, _, pull, push, mean, norm, _, words = kept
    by_unit = torch.empty_like(raw)
    kernel = "template_gradients"
    template_gradients[(sizes.items * sizes.words * sizes.channel_blocks(kernel),)](
        features, label, pull, push, mean, norm, words, by_unit, *features.stride(),
        sizes.classes, sizes.channels, sizes.pixels, sizes.words,
        **_settings(kernel, features, options),
    )  # fmt: skip
    with torch.enable_grad():
        free = raw.detach().requires_grad_()
        (found,) = torch.autograd.grad(unit(free, 2, options), free, by_unit)
    return found


def _settings(kernel: str, features: Tensor, options: FeedbackOptions) -> dict[str, Any]:
    return {
        **BLOCKS[kernel],
        "CENTRED": options.similarity == "correlation",
        "ACC": accumulator(features.dtype),
    }
