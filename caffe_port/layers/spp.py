"""SPP: spatial pyramid pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.pooling import ave_pool, max_pool
from caffe_port.spec.ops import spp as ops


@register_layer("SPP")
class SPP(Layer):
    """Pools in 1 x 1, 2 x 2, 4 x 4, .. bins and joins the levels, flattened.

    A single level stays (N, C, 1, 1). Source: BVLC/caffe spp_layer.cpp; the method is He et al.,
    Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, 2014.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.SPP)
        (x,) = bottoms
        with named(self.spec):
            levels = op.levels(tuple(x.shape))
        pooled = [
            ave_pool(x, level) if op.method == "AVE" else max_pool(x, level)[0] for level in levels
        ]
        if len(pooled) == 1:
            return (pooled[0],)
        return (torch.cat([level.flatten(1) for level in pooled], 1),)
