"""Slice: a blob cut along one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.slice import Slice as Options


@register_layer("Slice")
class Slice(Layer):
    """The parts in order. Source: BVLC/caffe slice_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        with named(self.spec):
            sizes = op.sizes(x.shape[op.axis])
        return torch.split(x, sizes, op.axis)
