"""BatchReindex: items of a batch picked by index."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer


@register_layer("BatchReindex")
class BatchReindex(Layer):
    """top[i] = bottom[index[i]]; an item picked twice gets both diffs.

    Source: BVLC/caffe batch_reindex_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x, index = bottoms[0], bottoms[1].detach()
        wrong = (index < 0) | (index >= x.shape[0])
        with named(self.spec):
            if bool(wrong.any()):
                found = float(index[wrong][0])
                raise ValueError(f"index {found:g}; expected 0 to {x.shape[0] - 1}")
        return (x.index_select(0, index.long()),)
