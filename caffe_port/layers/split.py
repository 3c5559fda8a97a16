"""Split: the same data under several names; diffs add up."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("Split")
class Split(Layer):
    """Gives each reader a view. Source: BVLC/caffe split_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return tuple(x.view_as(x) for _ in self.spec.tops)
