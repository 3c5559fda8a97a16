"""TanH."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("TanH")
class TanH(Layer):
    """The hyperbolic tangent. Source: BVLC/caffe tanh_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.tanh(),)
