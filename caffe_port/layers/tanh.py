"""TanH."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer


@register_layer("TanH")
class TanH(Elementwise):
    """The hyperbolic tangent. Source: BVLC/caffe tanh_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.tanh(),)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return 1 - y * y
