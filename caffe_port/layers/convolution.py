"""Convolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.convolution import Convolution as Options


@register_layer("Convolution")
class Convolution(Layer):
    """Each bottom correlated with the same filters; torch's convolution is Caffe's.

    Source: BVLC/caffe conv_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.op
        assert isinstance(op, Options)
        weight, bias = self.get_parameter("weight"), self.blob(1)
        return tuple(
            functional.conv2d(x, weight, bias, op.stride, op.pad, op.dilation, op.group)
            for x in bottoms
        )
