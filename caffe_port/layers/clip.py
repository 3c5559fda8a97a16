"""Clip."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.clip import Clip as Options


@register_layer("Clip")
class Clip(Elementwise):
    """The diff passes where the bottom is in range.

    In place, backward looks at the top where the bottom was: that is in range, unless min is above
    max and nothing is.


    Source: BVLC/caffe clip_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        # two steps, because torch's clamp lets max win over min
        top = x.clamp(max=op.high).clamp(min=op.low)
        return (self.in_place_top(x, top) if self.in_place else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(Options)
        return ((x >= op.low) & (x <= op.high)).to(x.dtype)
