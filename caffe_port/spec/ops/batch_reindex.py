"""BatchReindex: items of a batch picked by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class BatchReindex(Op):
    """Options of BatchReindex: none. Source: BVLC/caffe batch_reindex_layer.cpp."""

    type = "BatchReindex"
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        data, index = bottoms
        expect(len(data) > 0, "bottom 0 is a scalar; expected a batch")
        expect(len(index) == 1, f"an index of shape {index}; expected one axis")
        return [(index[0], *data[1:])]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, bottoms[0][0] - 1, whole=True) if index else Values()
