"""SpatialProduct: all channels times one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class SpatialProduct(Op):
    """Options of SpatialProduct: none. Source: DeepLab v2 spatial_product_layer.cpp."""

    type = "SpatialProduct"
    bottoms = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, scale = bottoms
        expect(len(x) == 4, f"a bottom of shape {x}; expected (N, C, H, W)")
        wanted = (x[0], 1, *x[2:])
        expect(scale == wanted, f"a map of shape {scale}; expected {wanted}")
        return [x]
