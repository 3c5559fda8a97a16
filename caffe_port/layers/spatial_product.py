"""SpatialProduct: all channels times one map."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("SpatialProduct")
class SpatialProduct(Layer):
    """(N, C, H, W) times (N, 1, H, W); both get diffs.

    Source: DeepLab v2 spatial_product_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x, scale = bottoms
        return (x * scale,)
