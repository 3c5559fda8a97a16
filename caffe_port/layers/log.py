"""Log."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._overwritten import Elementwise
from caffe_port.layers._registry import register_layer
from caffe_port.spec.ops.log import Log as Options


@register_layer("Log")
class Log(Elementwise):
    """log(shift + scale x) / log(base): -inf at 0, NaN below.

    In place, Caffe's backward finds the top in the bottom's place and writes over the top's diff
    before it reads it: the diff is the squared derivative at the top, whatever the top's diff is.

    Source: BVLC/caffe log_layer.cpp.
    """

    overwrites_diff = True

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        top = (x * op.scale + op.shift).log() * (1 / op.log_base)
        return (self.in_place_top(x, top) if self.in_place else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(Options)
        return op.scale / op.log_base / (x * op.scale + op.shift)
