"""Clip."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._overwritten import with_diff
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.clip import Clip as Options


@register_layer("Clip")
class Clip(Layer):
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
        if not self.in_place:
            return (top,)
        return (with_diff(x, top, torch.full_like(x, float(op.low <= op.high))),)
