"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.euclidean_loss import EuclideanLoss as Options


class _RootMeanSquare(torch.autograd.Function):
    """sqrt(mean(x^2)), whose diff DeepLab v1 keeps finite at 0 by a floor of 1e-6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = (x * x).mean().sqrt()
        ctx.save_for_backward(x, root)
        return root

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> Tensor:
        x, root = ctx.saved_tensors
        diff: Tensor = diffs[0] * x / x.numel() / root.clamp(min=1e-6)
        return diff


@register_layer("EuclideanLoss")
class EuclideanLoss(Layer):
    """sum((a - b)^2) / (2 N); both bottoms get diffs.

    DeepLab v1 divides by the number of all values instead of N, and its type L2sqrt is the root of
    the mean square.

    Source: BVLC/caffe euclidean_loss_layer.cpp; DeepLab v1's.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        a, b = bottoms
        delta = a - b.reshape(a.shape)
        if op.norm == "L2sqrt":
            return (_RootMeanSquare.apply(delta),)  # type: ignore[no-untyped-call]
        count = delta.numel() if self.spec.dialect == "deeplab1" else a.shape[0]
        return ((delta * delta).sum() / count / 2,)
