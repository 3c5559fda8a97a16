"""Filter: the items of a batch that a selector marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class Filter(Op):
    """Options of Filter: none. The last bottom is the selector.

    Source: BVLC/caffe filter_layer.cpp.
    """

    type = "Filter"
    bottoms = (2, None)
    tops = (1, None)

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Filter:
        bottoms, tops = len(layer.bottom), len(layer.top)
        expect(
            tops == bottoms - 1,
            f"{tops} tops for {bottoms} bottoms; expected one per bottom but the selector",
        )
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes if every item is selected; how many are, only the data tells."""
        *data, selector = bottoms
        expect(
            len(selector) > 0 and math.prod(selector[1:]) == 1,
            f"a selector of shape {selector}; expected one value per item",
        )
        for i, shape in enumerate(data):
            expect(
                len(shape) > 0 and shape[0] == selector[0],
                f"bottom {i} has shape {shape}; expected {selector[0]} items, as the selector has",
            )
        return list(data)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 1, whole=True) if index == len(bottoms) - 1 else Values()
