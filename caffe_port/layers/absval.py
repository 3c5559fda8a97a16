"""AbsVal."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("AbsVal")
class AbsVal(Layer):
    """The absolute value, with diff 0 at 0. Source: BVLC/caffe absval_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.abs(),)
