"""Modules: layers that treat each channel of an item as one."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.layers.neurons import Dropout
from caffe_port.spec.ops import channelwise as ops


@register_layer("Axpy")
class Axpy(Layer):
    """Bottoms: scale a, x, y; the top is a x + y.

    Source: hujie-frank/SENet axpy_layer.cpp; Hu et al., Squeeze-and-Excitation Networks, 2018.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scale, x, y = bottoms
        self.spec.options(ops.Axpy)
        return (scale.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) * x + y,)


@register_layer("SpatialDropout")
class SpatialDropout(Dropout):
    """Source: Tompson et al., 2015."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.SpatialDropout)
        if op.always_scales and not op.drops(self.spec.phase):
            return (bottoms[0] * op.scale,)
        return super().forward(*bottoms)

    def _mask(self, x: Tensor, keep: float) -> Tensor:
        each = super()._mask(x.new_empty(x.shape[:2]), keep)
        return each.reshape(*each.shape, *[1] * (x.dim() - 2))
