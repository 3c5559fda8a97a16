"""Modules: normalization, and scales and biases of channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.layers._registry import Layer, learns, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import Shape
from caffe_port.spec.ops import normalization as ops


def _over_channels(statistic: Tensor, x: Tensor) -> Tensor:
    return statistic.reshape(-1, *[1] * (x.dim() - 2))


def centred(x: Tensor, mean: Tensor) -> Tensor:
    """x minus its channel's mean.

    Args:
        x: (N, C, ...).
        mean: (C,).
    """
    return x - _over_channels(mean, x)


def channel_mean(x: Tensor) -> Tensor:
    """Mean of each channel of (N, C, ...), a (C,)."""
    return x.mean([axis for axis in range(x.dim()) if axis != 1])


@register_layer("BatchNorm")
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps), without scale and shift.

    The statistics are the batch's in TRAIN and the stored ones, mean / factor and variance /
    factor, in TEST, unless use_global_stats says otherwise. A forward pass on the batch's
    statistics adds them to the stored ones. torch's batch_norm rounds (x - mean) away where it
    folds mean and variance into one multiply-add, and has no factor.

    DeepLab v2 with use_global_stats and update_global_stats, in TRAIN: the variance is the batch's
    around the stored mean, constant for backward. Its TRAIN without use_global_stats normalizes by
    a stale variance; here that is BVLC's rule.

    Attributes:
        parts: number of equal parts of each batch, of which the layer gets one.
        mean_of: computes the mean of each channel, over all parts.
    Source: BVLC/caffe batch_norm_layer.cpp; DeepLab v2 batch_norm_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.parts = 1
        self.mean_of: Callable[[Tensor], Tensor] = channel_mean

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.BatchNorm)
        (x,) = bottoms
        stored = not self.in_training if op.use_global_stats is None else op.use_global_stats
        updates = not stored
        if stored:
            mean, variance = self._stored()
            deviation = centred(x, mean)
            if op.update_global_stats and self.in_training and self.spec.dialect == "deeplab2":
                updates = True
                variance = self.mean_of(deviation.detach().square())
        else:
            mean = self.mean_of(x)
            deviation = centred(x, mean)
            variance = self.mean_of(deviation.square())
        if updates:
            count = self.parts * x[:, :1].numel()
            self._update(mean.detach(), variance.detach(), count, op.fraction)
        return (deviation / _over_channels((variance + op.eps).sqrt(), x),)

    def _stored(self) -> tuple[Tensor, Tensor]:
        factor = self.param("factor").detach()
        scale = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
        return self.param("mean").detach() * scale, self.param("variance").detach() * scale

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: int, fraction: float) -> None:
        unbiased = variance * (count / (count - 1) if count > 1 else 1)
        self.param("factor").mul_(fraction).add_(1)
        self.param("mean").mul_(fraction).add_(mean)
        self.param("variance").mul_(fraction).add_(unbiased)


_EPS = 1e-9


@register_layer("BN")
class BN(Layer):
    """Tops: scale * normalized + shift; then, where asked for, the batch's mean and variance.

    Mean and variance (biased, before eps = 1e-9 is added) are per channel and get no diff.

    PSPNet's layer of that name normalizes by the batch's statistics in TRAIN, which it then mixes
    into the running ones; in TEST, and in both phases where it is frozen, by the running ones.

    Source: alexgkendall/caffe-segnet bn_layer.cpp; hszhao/PSPNet bn_layer.cpp; Ioffe and Szegedy,
        Batch Normalization, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        if isinstance(self.spec.op, ops.RunningBN):
            return (self._running(x, self.spec.op),)
        op = self.spec.options(ops.BN)
        if not op.learn:
            return (x * self.param("scale") + self.param("shift"),)
        mean = x.mean((0, 2, 3), keepdim=True)
        deviation = x - mean
        variance = deviation.square().mean((0, 2, 3), keepdim=True)
        normalized = deviation / (variance + _EPS).sqrt()
        top = normalized * self.param("scale") + self.param("shift")
        return (top, mean.detach(), variance.detach())[: len(self.spec.tops)]

    def _running(self, x: Tensor, op: ops.RunningBN) -> Tensor:
        mean, variance = self.param("mean").detach(), self.param("variance").detach()
        if op.stored or not self.in_training:
            deviation = centred(x, mean)
        else:
            running = mean, variance
            mean = channel_mean(x)
            deviation = centred(x, mean)
            variance = channel_mean(deviation.square())
            for kept, new in zip(running, (mean, variance), strict=True):
                kept.mul_(op.momentum).add_(new.detach().view_as(kept), alpha=1 - op.momentum)
        normalized = deviation * _over_channels((variance + op.eps).rsqrt(), x)
        scale, shift = (_over_channels(self.param(name), x) for name in ("scale", "shift"))
        return normalized * scale + shift


def assigns_diff(layer: LayerSpec, bottom: Shape) -> bool:
    """Whether Caffe's backward overwrites the diff of a learned scale instead of adding to it.

    It does if the axes before the scale's have one element in all, such as a batch of one item,
    except for a scale of one element over more than one. The diffs of other layers that share the
    scale, and of earlier passes of the same iteration (iter_size), are lost.

    Args:
        layer: of any type.
        bottom: shape of the scaled bottom.
    Source: BVLC/caffe scale_layer.cpp, Backward_cpu, where outer_dim_ is 1.
    """
    if layer.type != "Scale" or len(layer.bottoms) > 1:
        return False
    weight = layer.params[0].shape
    before = bottom[: len(bottom) - len(layer.options(ops.Scale).spread(bottom, weight))]
    return math.prod(before) == 1 and (math.prod(weight) > 1 or math.prod(bottom) == 1)


@register_layer("Scale")
class Scale(Layer):
    """If Caffe overwrites the diff of a shared scale, the owner's, computed last, remains.

    So the other layers add nothing here; the owner is assumed to scale a bottom of the same leading
    axes.

    Source: BVLC/caffe scale_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Scale)
        x = bottoms[0]
        weight = bottoms[1] if len(bottoms) > 1 else self.param("weight")
        shape = op.spread(tuple(x.shape), tuple(weight.shape))
        shared = len(bottoms) == 1 and self.spec.params[0].owner is not None
        if shared and assigns_diff(self.spec, tuple(x.shape)):
            weight = weight.detach()
        top = x * weight.reshape(shape)
        return (top + self.param("bias").reshape(shape) if op.bias else top,)


@register_layer("Bias")
class Bias(Layer):
    """Source: BVLC/caffe bias_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Bias)
        x = bottoms[0]
        bias = bottoms[1] if len(bottoms) > 1 else self.param("bias")
        return (x + bias.reshape(op.spread(tuple(x.shape), tuple(bias.shape))),)


def _normalized(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / (standard deviation + eps) of each row, and the divisor."""
    deviation = rows - rows.mean(1, keepdim=True)
    divisor = deviation.square().mean(1, keepdim=True).sqrt() + eps
    return deviation / divisor, divisor


class _Normalize(torch.autograd.Function):
    """``_normalized`` with Caffe's diff.

    Backward uses the divisor in place of the standard deviation, as Caffe does: autograd would
    divide by the standard deviation alone and give NaN for a constant row.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> Tensor:
        top, divisor = _normalized(rows, eps)
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
        op = self.spec.options(ops.MVN)
        (x,) = bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        lead = 1 if op.across_channels else 2
        rows = x.reshape(math.prod(shape[:lead]), math.prod(shape[lead:]))
        if not op.normalize_variance:
            top = rows - rows.mean(1, keepdim=True)
        elif learns(rows):
            top = _Normalize.apply(rows, op.eps)  # type: ignore[no-untyped-call]
        else:
            top, _ = _normalized(rows, op.eps)
        return (top.reshape(shape),)


@register_layer("Normalize")
class Normalize(Layer):
    """scale * x / sqrt(eps + sum of squares); torch's normalize limits the norm instead.

    Source: weiliu89/caffe normalize_layer.cpp; Liu et al., ParseNet, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Normalize)
        (x,) = bottoms
        axes = tuple(range(1, x.dim())) if op.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + op.eps).sqrt()
        scale = self.param("weight")
        if not op.channel_shared:
            scale = scale.reshape(-1, *[1] * (x.dim() - 2))
        return (x / norm * scale,)
