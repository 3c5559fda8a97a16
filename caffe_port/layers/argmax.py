"""ArgMax: indices or values of the k largest."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._classes import by_item
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.argmax import ArgMax as Options


def top_k(x: Tensor, k: int, axis: int) -> tuple[Tensor, Tensor]:
    """The k largest values along an axis, largest first; among equals the highest index first.

    Args:
        x: any shape.
        k: how many, at most the axis's size.
        axis: the axis searched.
    Returns:
        Values and int64 indices, shaped like x with k elements on the axis.
    Source: BVLC/caffe argmax_layer.cpp, whose sort compares (value, index) pairs.
    """
    flipped = x.flip(axis)
    values, order = torch.sort(flipped, dim=axis, descending=True, stable=True)
    values, order = values.narrow(axis, 0, k), order.narrow(axis, 0, k)
    return values, x.shape[axis] - 1 - order


@register_layer("ArgMax")
class ArgMax(Layer):
    """Has no backward, as in Caffe."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        x = bottoms[0].detach()
        shape = op.top_shapes([tuple(x.shape)])[0]
        if op.axis is not None:
            values, index = top_k(x, op.top_k, op.axis)
            return (values if op.out_max_val else index.to(x.dtype),)
        values, index = top_k(by_item(x), op.top_k, 1)
        both = [index.to(x.dtype), values] if op.out_max_val else [index.to(x.dtype)]
        return (torch.stack(both, 1).reshape(shape),)
