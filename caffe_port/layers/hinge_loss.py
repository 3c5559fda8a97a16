"""HingeLoss: one against all."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._classes import by_item
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.hinge_loss import HingeLoss as Options


def hinge_loss(scores: Tensor, label: Tensor, norm: str = "L1") -> Tensor:
    """Sum over classes of max(0, 1 - s) for the true class and max(0, 1 + s) for others.

    Args:
        scores: (N, C).
        label: (N,) int64.
        norm: 'L1', or 'L2' for the squares of those.
    Returns:
        The mean over items, a scalar.
    Source: BVLC/caffe hinge_loss_layer.cpp.
    """
    sign = torch.ones_like(scores).scatter_(1, label[:, None], -1.0)
    short = torch.relu(1 + sign * scores)
    return (short if norm == "L1" else short * short).sum() / scores.shape[0]


@register_layer("HingeLoss")
class HingeLoss(Layer):
    """All axes after the first together are the classes."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores = by_item(bottoms[0])
        with named(self.spec):
            label, _ = checked(bottoms[1].flatten(), scores.shape[1])
        return (hinge_loss(scores, label, self.spec.options(Options).norm),)
