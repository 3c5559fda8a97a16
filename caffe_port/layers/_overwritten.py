"""Backward passes of layers in place that read what forward has overwritten.

Some of Caffe's neuron layers use their bottom's data in backward. In place these are the top's data
by then, so the diff is not the derivative; a port that is to train as Caffe did takes it over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _GivenDiff(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, top: Tensor, factor: Tensor, chained: bool) -> Tensor:
        ctx.save_for_backward(factor)
        ctx.chained = chained
        return top.clone()

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return (diffs[0] * factor if ctx.chained else factor), None, None, None


def with_diff(x: Tensor, top: Tensor, factor: Tensor, *, chained: bool = True) -> Tensor:
    """Gives a top whose diff with respect to x is a given one.

    Args:
        x: the bottom.
        top: the layer's result.
        factor: the diff to x is the top's diff times this, of x's shape;
        chained: or, if False, this alone: Caffe wrote it over the top's diff before it read that.
    Returns:
        The top's values.
    """
    return _GivenDiff.apply(x, top.detach(), factor, chained)  # type: ignore[no-any-return,no-untyped-call]
