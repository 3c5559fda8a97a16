"""Parameter: a blob that is learned."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("Parameter")
class Parameter(Layer):
    """Its top is the parameter, diff included. Source: BVLC/caffe parameter_layer.hpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (self.param("weight"),)
