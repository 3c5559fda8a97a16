"""AdaptiveBiasChannel: scores shifted until each present label wins its share of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.adaptive_bias_channel import AdaptiveBiasChannel as Options


def _suppress(scores: Tensor, labels: Sequence[int], margin: float) -> Tensor:
    """Presses absent labels that beat the weakest present one below it."""
    absent = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    absent[list(labels)] = False
    weakest = scores[list(labels)].amin(0)
    return torch.where(absent[:, None] & (scores > weakest), weakest - margin, scores)


def adapt(scores: Tensor, labels: Sequence[int], op: Options) -> Tensor:
    """Shifts the channels of the present labels of one item.

    num_iter times, label by label: the n-th smallest of (maximum over present labels - score) is
    added to the label's channel, n being its portion of the pixels, and the maximum is taken anew.
    At last all channels are lowered together so that the mean of the maximum stays what it was.

    Upstream goes through several foreground labels in an order that the C library's generator
    shuffles, so its result cannot be had again; here the order is ascending.

    Args:
        scores: (C, P), P pixels.
        labels: the present labels, ascending.
        op: options.
    Returns:
        (C, P).
    Source: DeepLab v2 adaptive_bias_channel_layer.cpp, Forward_cpu.
    """
    if not labels:
        return scores
    scores = _suppress(scores, labels, op.margin_others) if op.suppress_others else scores.clone()
    best = scores[list(labels)].amax(0)
    before = best.double().mean()
    pixels = scores.shape[1]
    for _ in range(op.num_iter):
        for label in labels:
            portion = op.bg_portion if label == 0 else op.fg_portion
            # the product is float32's; a portion of 1 reads beyond the last pixel upstream
            nth = min(int(torch.tensor(portion, dtype=torch.float32) * pixels), pixels - 1)
            scores[label] += (best - scores[label]).sort().values[nth]
            best = torch.maximum(best, scores[label])
    return scores + (before - best.double().mean()).to(scores.dtype)


@register_layer("AdaptiveBiasChannel")
class AdaptiveBiasChannel(Layer):
    """Bottoms: scores, the labels of each item (-1 is none). Has no backward, as in DeepLab."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        scores, labels = bottoms[0].detach(), bottoms[1].flatten(1)
        with named(self.spec):
            label, present = checked(labels, scores.shape[1], (-1,))
        items = [
            adapt(item.flatten(1), sorted(tags[there].tolist()), op).reshape(item.shape)
            for item, tags, there in zip(scores, label, present, strict=True)
        ]
        return (torch.stack(items) if items else scores.clone(),)
