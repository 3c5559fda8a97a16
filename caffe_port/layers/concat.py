"""Concat along one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.concat import Concat as Options


@register_layer("Concat")
class Concat(Layer):
    """Joins the bottoms. Source: BVLC/caffe concat_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat(bottoms, self.spec.options(Options).axis),)
