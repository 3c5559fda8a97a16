"""Reshape: the same values under other axes."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer


@register_layer("Reshape")
class Reshape(Layer):
    """The new axes follow from the bottom given. Source: BVLC/caffe reshape_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        with named(self.spec):
            shape = self.spec.op.top_shapes([tuple(x.shape)])[0]
        return (x.reshape(shape),)
