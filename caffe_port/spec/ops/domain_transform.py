"""DomainTransform: edge-preserving smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class DomainTransform(Op):
    """Options of DomainTransform. Source: DeepLab v2 domain_transform_layer.cpp.

    Attributes:
        num_iter: iterations of four passes each.
        spatial_sigma, range_sigma: widths in pixels and in values of the reference gradient.
        min_weight: the least weight of a neighbour.
    """

    type = "DomainTransform"
    bottoms = (3, 3)
    fixed_bottoms = frozenset({2})

    num_iter: int
    spatial_sigma: float
    range_sigma: float
    min_weight: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DomainTransform:
        o = layer.domain_transform_param
        expect(o.num_iter > 0, f"num_iter is {o.num_iter}; expected 1 or more")
        expect(o.spatial_sigma > 0, f"spatial_sigma is {o.spatial_sigma}; expected more than 0")
        expect(o.range_sigma > 0, f"range_sigma is {o.range_sigma}; expected more than 0")
        expect(o.min_weight >= 0, f"min_weight is {o.min_weight}; expected 0 or more")
        return cls(o.num_iter, o.spatial_sigma, o.range_sigma, o.min_weight)

    def sigma(self, iteration: int) -> float:
        """The spatial width of one iteration; their squares add up to spatial_sigma's."""
        share = math.ldexp(1, -(iteration + 1)) / math.sqrt(1 - math.ldexp(1, -2 * self.num_iter))
        return self.spatial_sigma * math.sqrt(3) * share

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, gradient, sizes = bottoms
        expect(len(x) == 4, f"a bottom of shape {x}; expected (N, C, H, W)")
        wanted = (x[0], 1, *x[2:])
        expect(gradient == wanted, f"a gradient of shape {gradient}; expected {wanted}")
        expect(
            len(sizes) > 1 and sizes[0] == x[0] and math.prod(sizes[1:]) >= 2,
            f"sizes of shape {sizes}; expected ({x[0]}, 1, 1, 2)",
        )
        return [x]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = bottoms[0][2:]
        return Values(1, min(height, width), whole=True) if index == 2 else Values()

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return self.num_iter * sum(bottoms[0][2:])
