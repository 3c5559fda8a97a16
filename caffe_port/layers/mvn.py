"""MVN."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops import mvn as options


class _Normalize(torch.autograd.Function):
    """(x - mean) / (standard deviation + eps) of each row.

    Backward takes the standard deviation and the divisor for one number, as Caffe does: autograd
    would divide by the former alone and give NaN for a constant row.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> Tensor:
        deviation = rows - rows.mean(1, keepdim=True)
        divisor = deviation.square().mean(1, keepdim=True).sqrt() + eps
        top = deviation / divisor
        ctx.save_for_backward(top, divisor)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        top, divisor = ctx.saved_tensors
        (diff,) = diffs
        along = top * (top * diff).mean(1, keepdim=True)
        return (diff - diff.mean(1, keepdim=True) - along) / divisor, None


@register_layer("MVN")
class MVN(Layer):
    """Source: BVLC/caffe mvn_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(options.MVN)
        (x,) = bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        lead = 1 if op.across_channels else 2
        rows = x.reshape(math.prod(shape[:lead]), math.prod(shape[lead:]))
        if op.normalize_variance:
            top: Tensor = _Normalize.apply(rows, op.eps)  # type: ignore[no-untyped-call]
        else:
            top = rows - rows.mean(1, keepdim=True)
        return (top.reshape(shape),)
