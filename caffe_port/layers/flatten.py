"""Flatten: several axes made one."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("Flatten")
class Flatten(Layer):
    """The same values in fewer axes. Source: BVLC/caffe flatten_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.reshape(self.spec.op.top_shapes([tuple(x.shape)])[0]),)
