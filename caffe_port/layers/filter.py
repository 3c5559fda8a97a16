"""Filter: the items of a batch that a selector marks."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


@register_layer("Filter")
class Filter(Layer):
    """Keeps the items whose selector is not 0; the others get diffs of 0.

    The tops have as many items as were selected, which may be none.

    Source: BVLC/caffe filter_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *data, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        return tuple(x.index_select(0, chosen) for x in data)
