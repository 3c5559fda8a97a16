"""Reduction: all axes from one on become one number."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.reduction import Reduction as Options


def reduction(x: Tensor, operation: str, axis: int = 0, coeff: float = 1.0) -> Tensor:
    """coeff times the sum, sum of absolute values, sum of squares or mean.

    Args:
        x: any shape but a scalar.
        operation: 'SUM', 'ASUM', 'SUMSQ' or 'MEAN'.
        axis: the first axis that goes, with all after it.
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
        op = self.spec.options(Options)
        return (reduction(bottoms[0], op.operation, op.axis, op.coeff),)
