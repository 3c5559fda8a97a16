"""SigmoidCrossEntropyLoss: one yes-or-no question per element."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.labels import divisor
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.sigmoid_cross_entropy_loss import SigmoidCrossEntropyLoss as Options


@register_layer("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """Sum of torch's loss, which is Caffe's, over the targets that count, divided.

    The DeepLab forks know neither ignore_label nor normalization: N divides there.

    Source: BVLC/caffe sigmoid_cross_entropy_loss_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        scores, target = bottoms[0], bottoms[1].detach().reshape(bottoms[0].shape)
        each = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
        if self.spec.dialect != "bvlc":
            return (each.sum() / scores.shape[0],)
        counted = torch.ones_like(target, dtype=torch.bool)
        if op.ignore_label is not None:
            counted = target.long() != op.ignore_label
        total = each.masked_fill(~counted, 0).sum()
        return (total / divisor(op.normalization, counted, scores),)
