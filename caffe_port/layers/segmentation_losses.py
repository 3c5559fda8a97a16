"""Losses and label layers that segmentation papers added."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._registry import Layer, is_tracing, named, register_layer
from caffe_port.layers.losses import SoftmaxWithLoss, balanced, by_class, cross_entropies
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import segmentation_losses


@register_layer("FeedbackLoss")
class FeedbackLoss(Layer):
    """Bottoms: features, labels on their grid, and scores unless the features are the scores.

    Attributes:
        options: those of the prototxt.
        path: 'auto', 'torch' or 'triton'; see caffe_port.losses.feedback_loss.
        iteration: the update that a solver makes, set by it, from 0. Update i of a ``ramp_up`` of R
            multiplies the loss by (i + 1) / R where that is below 1. None without a solver, and in
            its test nets: all of the loss.
    """

    def __init__(self, spec: LayerSpec) -> None:
        from caffe_port.losses import FeedbackOptions

        super().__init__(spec)
        self.path = "auto"
        self.iteration: int | None = None
        with named(spec):
            options = dataclasses.asdict(spec.options(segmentation_losses.FeedbackLoss))
            self._ramp_up: int = options.pop("ramp_up")
            self.options = FeedbackOptions(**options)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.losses import feedback_loss

        features, labels, *scores = bottoms
        labels = labels.reshape(features.shape[0], *features.shape[2:])
        with named(self.spec):
            loss = feedback_loss(
                features, labels, scores[0] if scores else None, self.options, path=self.path
            )
        if self.iteration is not None and self.iteration + 1 < self._ramp_up:
            loss = loss * ((self.iteration + 1) / self._ramp_up)
        return (loss,)


def unique_labels(labels: Tensor, op: segmentation_losses.UniqueLabel) -> Tensor:
    """The labels of one item and the forced ones, ascending, padded with -1.

    Args:
        labels: any shape.
        op: options.
    Returns:
        (max_labels,).
    Raises:
        ValueError: there are more than max_labels.
    Source: DeepLab v2 unique_label_layer.cpp, Forward_cpu.
    """
    ignored = labels.new_tensor(op.ignore_labels)
    counted = labels.flatten()[~torch.isin(labels.flatten(), ignored)]
    found: Tensor = torch.unique(torch.cat([counted, labels.new_tensor(op.force_labels)]))
    if len(found) > op.max_labels:
        raise ValueError(f"{len(found)} different labels; max_labels is {op.max_labels}")
    return torch.cat([found, labels.new_full((op.max_labels - len(found),), -1)])


@register_layer("SoftmaxWithLossOHEM")
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """Tops: the loss; the probabilities; the loss of each position, without a diff.

    Source: extendedcaffe/extended-caffe softmax_loss_ohem_layer.cpp; Shrivastava et al., Training
        Region-based Object Detectors with Online Hard Example Mining, 2016.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        tops = super().forward(*bottoms)
        if len(self.spec.tops) < 3:
            return tops
        op = self.spec.options(segmentation_losses.SoftmaxWithLossOHEM)
        prob, labels = by_class(tops[1], op.axis), bottoms[1].detach()
        label, counted = checked(
            labels.reshape(prob.shape[0], prob.shape[2]), prob.shape[1], op.ignore_labels
        )
        own = prob.gather(1, label[:, None])[:, 0].clamp(min=torch.finfo(torch.float32).tiny)
        return (*tops, (-own.log() * counted).reshape(labels.shape))


@register_layer("SigmoidCrossEntropyBalanceLoss")
class SigmoidCrossEntropyBalanceLoss(Layer):
    """Source: kmaninis/OSVOS-caffe sigmoid_cross_entropy_balance_loss_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores = bottoms[0]
        return (balanced(scores, bottoms[1].detach().reshape(scores.shape), "hed"),)


def class_bits(labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the bits of SEAL's labels say.

    Args:
        labels: (N, L, H, W).
        classes: K.
    Returns:
        Whether each class is there (N, K, H, W); whether the pixel counts (N, 1, H, W); whether
        it has any class (N, 1, H, W).
    """
    if is_tracing():
        raise RuntimeError("torch.jit.trace cannot record the bits of labels; torch.export can")
    bits = labels.detach().float().contiguous().view(torch.int32)
    counted = bits[:, -1:] >= 0  # bit 31 is the sign
    present = [(bits[:, k // 32] >> k % 32) & 1 for k in range(classes)]
    used = bits[:, : classes // 32 + 1]
    return torch.stack(present, 1).bool(), counted, (used != 0).any(1, keepdim=True)


@register_layer("MultiChannelSigmoidCrossEntropyLoss")
class MultiChannelSigmoidCrossEntropyLoss(Layer):
    """The sum of the losses of all pixels that count and all classes, divided by N.

    Source: Chrisding/seal multichannel_sigmoid_cross_entropy_loss_layer.cpp; Yu et al.,
        Simultaneous Edge Alignment and Learning, 2018.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores = bottoms[0]
        present, counted, edge = class_bits(bottoms[1], scores.shape[1])
        each = cross_entropies(scores, present.to(scores))
        weighted = each * self.weight(present, counted, edge).to(scores)
        return (torch.where(counted, weighted, weighted.new_zeros(())).sum() / scores.shape[0],)

    def weight(self, present: Tensor, counted: Tensor, edge: Tensor) -> Tensor:
        """The weight of each element's loss."""
        return counted


@register_layer("MultiChannelReweightedSigmoidCrossEntropyLoss")
class MultiChannelReweightedSigmoidCrossEntropyLoss(MultiChannelSigmoidCrossEntropyLoss):
    """A class that is there weighs the share of pixels without any class; others the rest.

    Source: Chrisding/seal multichannel_reweighted_sigmoid_cross_entropy_loss_layer.cpp.
    """

    def weight(self, present: Tensor, counted: Tensor, edge: Tensor) -> Tensor:
        total = counted.sum((1, 2, 3), keepdim=True).clamp(min=1)
        edges = (counted & edge).sum((1, 2, 3), keepdim=True) / total
        others = (counted & ~edge).sum((1, 2, 3), keepdim=True) / total
        return torch.where(present, others, edges)


@register_layer("Quantize")
class Quantize(Layer):
    """Source: zeakey/DeepSkeleton quantize_layer.cpp; Shen et al., 2016."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x = bottoms[0].detach()
        limits = torch.tensor([1.0, 12, 36, 80, 200], dtype=x.dtype, device=x.device)
        found = torch.bucketize(x, limits, right=True)
        return ((found % len(limits)).to(x),)  # 200 and more is 0, as below 1


@register_layer("Rescale")
class Rescale(Layer):
    """Tops: 2 x / field - 1 where x is above 0.0001 in size and below the field, else 0; and where.

    Source: zeakey/DeepSkeleton rescale_layer.cpp; Shen et al., 2016.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        field, x = self.spec.options(segmentation_losses.Rescale).field, bottoms[0].detach()
        there = (x < field) & (x.abs() > 1e-4)
        top = torch.where(there, 2 * x / field - 1, x.new_zeros(()))
        return (top, there.to(x))[: len(self.spec.tops)]


@register_layer("UniqueLabel")
class UniqueLabel(Layer):
    """Has no backward, as in DeepLab."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(segmentation_losses.UniqueLabel)
        labels = bottoms[0].detach()
        with named(self.spec):
            lists = [unique_labels(item, op) for item in labels]
        found = torch.stack(lists) if lists else labels.new_empty(0, op.max_labels)
        return (found[:, :, None, None],)


def channel_bias(
    labels: Tensor, counted: Tensor, scores: Tensor, op: segmentation_losses.BiasChannel
) -> Tensor:
    """The bias of image or pixel labels, to be added to ``scores``.

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
        op = self.spec.options(segmentation_losses.BiasChannel)
        scores, labels = bottoms
        labels = labels.flatten(1) if op.label_type == "IMAGE" else labels[:, 0]
        with named(self.spec):
            label, counted = checked(labels, scores.shape[1], op.ignore_labels)
        return (scores + channel_bias(label, counted, scores.detach(), op),)


def _suppress(scores: Tensor, labels: Sequence[int], margin: float) -> Tensor:
    """Lowers absent labels that exceed the weakest present one below it."""
    absent = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    absent[list(labels)] = False
    weakest = scores[list(labels)].amin(0)
    return torch.where(absent[:, None] & (scores > weakest), weakest - margin, scores)


def adapt(
    scores: Tensor, labels: Sequence[int], op: segmentation_losses.AdaptiveBiasChannel
) -> Tensor:
    """Shifts the channels of the present labels of one item.

    num_iter times, label by label: the n-th smallest of (maximum over present labels - score) is
    added to the label's channel, n being its portion of the pixels, and the maximum is updated.
    Finally all channels are lowered together so that the mean of the maximum is unchanged.

    Upstream shuffles the foreground labels by the C library's generator, so its result cannot be
    reproduced; here they are in ascending order.

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
        op = self.spec.options(segmentation_losses.AdaptiveBiasChannel)
        scores, labels = bottoms[0].detach(), bottoms[1].flatten(1)
        with named(self.spec):
            label, present = checked(labels, scores.shape[1], (-1,))
        items = [
            adapt(item.flatten(1), sorted(tags[there].tolist()), op).reshape(item.shape)
            for item, tags, there in zip(scores, label, present, strict=True)
        ]
        return (torch.stack(items) if items else scores.clone(),)
