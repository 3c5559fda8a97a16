"""AbsVal."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer


@register_layer("AbsVal")
class AbsVal(Elementwise):
    """The absolute value, with diff 0 at 0. Source: BVLC/caffe absval_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.abs(),)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sign()
