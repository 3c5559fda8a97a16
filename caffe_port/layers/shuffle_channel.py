"""ShuffleChannel of ShuffleNet."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.shuffle_channel import ShuffleChannel as Options


@register_layer("ShuffleChannel")
class ShuffleChannel(Layer):
    """Channel i of group g becomes channel g of group i. Plain copies, so torch's reshape serves.

    Source: farmingyard/ShuffleNet shuffle_channel_layer.cpp; Zhang et al., ShuffleNet, 2017.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        groups = x.reshape(x.shape[0], op.group, x.shape[1] // op.group, *x.shape[2:])
        return (groups.transpose(1, 2).reshape(x.shape),)
