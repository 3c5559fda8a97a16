"""Scale."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.scale import Scale as Options


@register_layer("Scale")
class Scale(Layer):
    """Source: BVLC/caffe scale_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.op
        assert isinstance(op, Options)
        x = bottoms[0]
        weight = bottoms[1] if len(bottoms) > 1 else self.param("weight")
        shape = op.spread(tuple(x.shape), tuple(weight.shape))
        top = x * weight.reshape(shape)
        return (top + self.param("bias").reshape(shape) if op.bias else top,)
