"""Clip."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._overwritten import with_diff
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.clip import Clip as Options


@register_layer("Clip")
class Clip(Layer):
    """The diff passes where the bottom is in range; in place it always passes.

    Source: BVLC/caffe clip_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        # two steps, because torch's clamp lets max win over min
        top = x.clamp(max=op.high).clamp(min=op.low)
        return (with_diff(x, top, torch.ones_like(x)) if self.in_place else top,)
