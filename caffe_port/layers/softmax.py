"""Softmax over one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.softmax import Softmax as Options


@register_layer("Softmax")
class Softmax(Layer):
    """exp(x - max) / sum, over one axis. Source: BVLC/caffe softmax_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (torch.softmax(bottoms[0], self.spec.options(Options).axis),)
