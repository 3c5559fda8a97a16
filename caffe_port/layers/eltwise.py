"""Eltwise: product, weighted sum or maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.eltwise import Eltwise as Options


def weighted_sum(bottoms: Sequence[Tensor], coeff: Sequence[float]) -> Tensor:
    """sum of coeff[i] * bottoms[i], added in order."""
    total = coeff[0] * bottoms[0]
    for factor, x in zip(coeff[1:], bottoms[1:], strict=True):
        total = torch.add(total, x, alpha=factor)
    return total


def maximum(bottoms: Sequence[Tensor]) -> Tensor:
    """Elementwise maximum, whose diff goes to one bottom only.

    Of equal values in the first two bottoms the second wins; later bottoms must be greater. torch's
    maximum would halve the diff on ties.
    """
    a, b = bottoms[:2]
    top = torch.where(a > b, a, b)
    for x in bottoms[2:]:
        top = torch.where(x > top, x, top)
    return top


class _QuotientProduct(torch.autograd.Function):
    """A product whose diff is top / bottom * diff: Caffe's stable_prod_grad: false."""

    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        top = torch.stack(bottoms).prod(0)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor, ...]:
        top, *bottoms = ctx.saved_tensors
        return tuple(top / x * diffs[0] for x in bottoms)


def product(bottoms: Sequence[Tensor], stable: bool) -> Tensor:
    """Elementwise product."""
    if not stable:
        return _QuotientProduct.apply(*bottoms)  # type: ignore[no-any-return,no-untyped-call]
    top = bottoms[0] * bottoms[1]
    for x in bottoms[2:]:
        top = top * x
    return top


@register_layer("Eltwise")
class Eltwise(Layer):
    """Source: BVLC/caffe eltwise_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        if op.operation == "SUM":
            return (weighted_sum(bottoms, op.coeff),)
        if op.operation == "MAX":
            return (maximum(bottoms),)
        return (product(bottoms, op.stable_prod_grad),)
