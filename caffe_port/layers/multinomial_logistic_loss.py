"""MultinomialLogisticLoss: cross entropy of probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.labels import checked
from caffe_port.layers._classes import by_item
from caffe_port.layers._registry import Layer, named, register_layer

# Caffe's kLOG_THRESHOLD
LEAST_PROBABILITY = 1e-20


class LogLikelihood(torch.autograd.Function):
    """sum of -gain * log(prob), with prob floored at 1e-20 there and in the diff alike.

    Autograd through the floor would give a diff of 0 below it, where Caffe's is the steepest.
    """

    @staticmethod
    def forward(ctx: Any, prob: Tensor, gain: Tensor) -> Tensor:
        floored = prob.clamp(min=LEAST_PROBABILITY)
        ctx.save_for_backward(floored, gain)
        return -(gain * floored.log()).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        floored, gain = ctx.saved_tensors
        return -diffs[0] * gain / floored, None


def log_likelihood(prob: Tensor, gain: Tensor) -> Tensor:
    """sum of -gain * log(max(prob, 1e-20)).

    Args:
        prob: (N, C, ...) probabilities.
        gain: of the same shape; one-hot labels for the plain logistic loss.
    Returns:
        A scalar.
    """
    return LogLikelihood.apply(prob, gain)  # type: ignore[no-any-return,no-untyped-call]


@register_layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Layer):
    """Mean over items of -log of the true class's probability.

    Source: BVLC/caffe multinomial_logistic_loss_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        prob = by_item(bottoms[0])
        with named(self.spec):
            label, _ = checked(bottoms[1].flatten(), prob.shape[1])
        one_hot = torch.zeros_like(prob).scatter_(1, label[:, None], 1.0)
        return (log_likelihood(prob, one_hot) / prob.shape[0],)
