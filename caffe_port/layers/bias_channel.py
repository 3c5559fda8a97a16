"""BiasChannel: scores raised where labels say so."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.bias_channel import BiasChannel as Options


def channel_bias(labels: Tensor, counted: Tensor, scores: Tensor, op: Options) -> Tensor:
    """What is added to ``scores``.

    IMAGE: each label of an item raises its channel everywhere, label 0 by bg_bias, others by
    fg_bias. PIXEL: each pixel's label raises its channel there by fg_bias; with a background, every
    counted pixel raises the background by bg_bias, and nothing else where it is the label.

    Args:
        labels: (N, L) int64, or (N, H, W) for PIXEL.
        counted: like ``labels``, bool.
        scores: (N, C, H, W).
        op: options.
    Returns:
        (N, C, 1, 1), or (N, C, H, W).
    Source: DeepLab v2 bias_channel_layer.cpp, Forward_cpu.
    """
    foreground = counted.to(scores.dtype) * op.fg_bias
    if op.label_type == "IMAGE":
        each = torch.where(labels == 0, counted.to(scores.dtype) * op.bg_bias, foreground)
        return scores.new_zeros(scores.shape[:2]).scatter_add(1, labels, each)[..., None, None]
    if op.background is not None:
        foreground = foreground.masked_fill(labels == op.background, 0)
    bias = torch.zeros_like(scores).scatter_add(1, labels[:, None], foreground[:, None])
    if op.background is not None:
        bias[:, op.background] += counted * op.bg_bias
    return bias


@register_layer("BiasChannel")
class BiasChannel(Layer):
    """Bottoms: scores, labels. The scores' diff passes unchanged."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        scores, labels = bottoms
        labels = labels.flatten(1) if op.label_type == "IMAGE" else labels[:, 0]
        with named(self.spec):
            label, counted = checked(labels, scores.shape[1], op.ignore_labels)
        return (scores + channel_bias(label, counted, scores.detach(), op),)
