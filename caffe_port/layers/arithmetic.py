"""Modules: sums, products and maxima of whole blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops import arithmetic as ops


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
        op = self.spec.options(ops.Eltwise)
        if op.operation == "SUM":
            return (weighted_sum(bottoms, op.coeff),)
        if op.operation == "MAX":
            return (maximum(bottoms),)
        return (product(bottoms, op.stable_prod_grad),)


def reduction(x: Tensor, operation: str, axis: int = 0, coeff: float = 1.0) -> Tensor:
    """coeff times the sum, sum of absolute values, sum of squares or mean.

    Args:
        x: any shape but a scalar.
        operation: 'SUM', 'ASUM', 'SUMSQ' or 'MEAN'.
        axis: the first of the reduced axes; all after it are reduced too.
        coeff: the factor.
    Returns:
        The axes before ``axis``.
    Source: BVLC/caffe reduction_layer.cpp.
    """
    rows = x.flatten(axis)
    if operation == "ASUM":
        rows = rows.abs()
    elif operation == "SUMSQ":
        rows = rows * rows
    elif operation == "MEAN":
        return rows.sum(-1) * (coeff / rows.shape[-1]) if rows.shape[-1] else rows.mean(-1)
    return rows.sum(-1) * coeff


@register_layer("Reduction")
class Reduction(Layer):
    """The diff of an absolute value is 0 at 0, as torch's is."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Reduction)
        return (reduction(bottoms[0], op.operation, op.axis, op.coeff),)


@register_layer("SpatialProduct")
class SpatialProduct(Layer):
    """(N, C, H, W) times (N, 1, H, W); both get diffs.

    Source: DeepLab v2 spatial_product_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x, scale = bottoms
        return (x * scale,)


@register_layer("MaskPooling")
class MaskPooling(SpatialProduct):
    """Source: daijifeng001/caffe-mnc mask_pooling_layer.cu."""
