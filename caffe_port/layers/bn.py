"""BN of SegNet and ENet."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops import bn as options

_EPS = 1e-9


@register_layer("BN")
class BN(Layer):
    """Tops: scale * normalized + shift; then, where asked for, the batch's mean and variance.

    Mean and variance (biased, before eps = 1e-9 is added) are per channel and get no diff.

    Source: alexgkendall/caffe-segnet bn_layer.cpp; Ioffe and Szegedy, Batch Normalization, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(options.BN)
        (x,) = bottoms
        if not op.learn:
            return (x * self.param("scale") + self.param("shift"),)
        mean = x.mean((0, 2, 3), keepdim=True)
        deviation = x - mean
        variance = deviation.square().mean((0, 2, 3), keepdim=True)
        normalized = deviation / (variance + _EPS).sqrt()
        top = normalized * self.param("scale") + self.param("shift")
        return (top, mean.detach(), variance.detach())[: len(self.spec.tops)]
