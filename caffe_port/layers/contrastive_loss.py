"""ContrastiveLoss: similar pairs near, dissimilar ones a margin apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.layers._classes import by_item
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.contrastive_loss import ContrastiveLoss as Options


class _Contrastive(torch.autograd.Function):
    """Caffe's diff divides by distance + 1e-4, where autograd would by the distance alone."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, similar: Tensor, margin: float, legacy: bool
    ) -> Tensor:
        delta = a - b
        squared = (delta * delta).sum(1)
        short = margin - (squared if legacy else squared.sqrt())
        apart = short.clamp(min=0) if legacy else short.clamp(min=0) ** 2
        ctx.save_for_backward(delta, squared, short, similar)
        ctx.legacy = legacy
        return torch.where(similar, squared, apart).sum() / a.shape[0] / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        delta, squared, short, similar = ctx.saved_tensors
        pull = torch.ones_like(short) if ctx.legacy else short / (squared.sqrt() + 1e-4)
        factor = torch.where(similar, 1.0, torch.where(short > 0, -pull, 0.0))
        diff = (diffs[0] / delta.shape[0]) * factor[:, None] * delta
        return diff, -diff, None, None, None


def contrastive_loss(
    a: Tensor, b: Tensor, similar: Tensor, margin: float = 1.0, legacy: bool = False
) -> Tensor:
    """Mean over pairs of d^2 / 2 if similar, else max(margin - d, 0)^2 / 2.

    Args:
        a, b: (N, C).
        similar: (N,) bool.
        margin: the distance that dissimilar pairs should have.
        legacy: dissimilar pairs give max(margin - d^2, 0) / 2.
    Returns:
        A scalar.
    Source: BVLC/caffe contrastive_loss_layer.cpp.
    """
    return _Contrastive.apply(a, b, similar, margin, legacy)  # type: ignore[no-any-return,no-untyped-call]


@register_layer("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """Bottoms: two batches of vectors, and whether each pair is similar (not 0)."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        a, b = (by_item(x) for x in bottoms[:2])
        similar = bottoms[2].detach().flatten().long() != 0
        return (contrastive_loss(a, b, similar, op.margin, op.legacy_version),)
