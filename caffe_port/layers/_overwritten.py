"""Backward passes of elementwise layers, as functions of what Caffe finds in bottom and top.

Caffe's neuron layers read their bottom's or top's data in backward. Where a layer in place, or a
script, has overwritten that data since, the diff is not the derivative any more; a port that is to
train as Caffe did computes the same diff.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer


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


class Elementwise(Layer):
    """A layer whose top has the bottom's shape and depends on it element by element.

    Class attributes:
        overwrites_diff: in place, backward writes its factor over the top's diff before it reads
            that, so that the bottom's diff is the square of the factor, whatever the top's is.
    """

    overwrites_diff: ClassVar[bool] = False

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        """What Caffe's backward multiplies the top's diff by.

        Args:
            x, y: the data that it finds in the bottom and in the top; in place both are one.
        """
        raise TypeError(f"{type(self).__name__} defines no factor")

    def in_place_top(self, x: Tensor, top: Tensor) -> Tensor:
        """The top, with the diff that backward computes where it is written over the bottom."""
        with torch.no_grad():
            factor = self.factor(top, top)
        if self.overwrites_diff:
            return with_diff(x, top, factor * factor, chained=False)
        return with_diff(x, top, factor)
