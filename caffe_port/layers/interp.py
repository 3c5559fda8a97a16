"""Interp: DeepLab's align-corners bilinear resize."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.interp import Interp as Options


@register_layer("Interp")
class Interp(Layer):
    """Crops, then resizes with corner on corner; torch's arithmetic is DeepLab's.

    Source: DeepLab v2 interp_layer.cpp, interp.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        size = op.top_shapes([tuple(x.shape)])[0][2:]
        begin, height, width = -op.pad_beg, x.shape[2] + op.pad_end, x.shape[3] + op.pad_end
        x = x[:, :, begin:height, begin:width]
        if tuple(x.shape[2:]) == size:
            return (x.clone(),)
        return (functional.interpolate(x, size, mode="bilinear", align_corners=True),)
