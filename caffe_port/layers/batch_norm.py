"""BatchNorm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.batch_norm import BatchNorm as Options


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
        parts: into how many equal parts each batch is cut, of which the layer sees one.
        mean_of: gives the mean of each channel, over all parts.
    Source: BVLC/caffe batch_norm_layer.cpp; DeepLab v2 batch_norm_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.parts = 1
        self.mean_of: Callable[[Tensor], Tensor] = channel_mean

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
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
