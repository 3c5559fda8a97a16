"""Modules: normalization by statistics of a batch, with scale and shift or without."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import batch_norm as ops


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
    Intel's stats_batch_size gives each group of a batch statistics of its own, one after another.
    NVCaffe's scale_bias: see ``ScaledBatchNorm``.

    Source: BVLC/caffe batch_norm_layer.cpp; DeepLab v2 batch_norm_layer.cpp; intel/caffe
        batch_norm_layer.cpp, ForwardStatsBatch_cpu; NVIDIA/caffe batch_norm_layer.cpp, Forward_cpu.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.parts = 1
        self.mean_of: Callable[[Tensor], Tensor] = channel_mean
        self._passes = 0  # with scale_bias: forward passes on a batch's statistics

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.BatchNorm)
        (x,) = bottoms
        if isinstance(op, ops.ScaledBatchNorm):
            return (self._scaled(x, op),)
        with named(self.spec):
            groups = op.groups(self.spec.phase, len(x))
        if groups > 1:
            return (torch.cat([self._normalized(part, op) for part in torch.split(x, op.group)]),)
        return (self._normalized(x, op),)

    def _scaled(self, x: Tensor, op: ops.ScaledBatchNorm) -> Tensor:
        """NVCaffe's: the running statistics are those of the last pass at first, then mixed."""
        mean, variance = self.param("mean").detach(), self.param("variance").detach() + op.eps
        if self.in_training:
            mean = self.mean_of(x)
            variance = self.mean_of(centred(x, mean).square()) + op.eps
            kept = op.fraction if self._passes > 1 else 0
            self._passes += 1
            with torch.no_grad():
                for name, new in (("mean", mean), ("variance", variance)):
                    self.param(name).mul_(kept).add_(new.detach(), alpha=1 - kept)
        normalized = centred(x, mean) * _over_channels(variance.rsqrt(), x)
        scale, shift = (_over_channels(self.param(name), x) for name in ("scale", "shift"))
        return normalized * scale + shift

    def _normalized(self, x: Tensor, op: ops.BatchNorm) -> Tensor:
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
        return deviation / _over_channels((variance + op.eps).sqrt(), x)

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
