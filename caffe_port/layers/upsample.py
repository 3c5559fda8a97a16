"""Upsample of SegNet and ENet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.upsample import Upsample as Options


class _Unpool(torch.autograd.Function):
    """Writes each value to its index; of several for one place the last stays.

    Each of them gets that place's diff all the same, as upstream; autograd of a scatter would too,
    but torch leaves open which of them it writes.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(index)
        # the position of the last value for each place decides, so the order of writing does not
        position = torch.arange(values.shape[1], device=values.device).expand_as(index)
        last = index.new_full((len(index), size), -1)
        last.scatter_reduce_(1, index, position, "amax")
        found = values.gather(1, last.clamp(min=0))
        return torch.where(last >= 0, found, torch.zeros_like(found))

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return diffs[0].gather(1, index), None, None


def unpool(x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Zeros, with x's values at the places a mask names.

    Args:
        x: (N, C, H, W).
        mask: (N, C, H, W) of row * width + column in the top's plane, as MAX pooling's second top.
        height, width: of the top.
    Returns:
        (N, C, height, width).
    Raises:
        ValueError: an index outside of the plane.
    Source: alexgkendall/caffe-segnet upsample_layer.cpp; Badrinarayanan et al., SegNet, 2015.
    """
    index = mask.detach().long().flatten(0, 1).flatten(1)
    wrong = (index < 0) | (index >= height * width)
    if bool(wrong.any()):
        raise ValueError(
            f"the mask holds index {int(index[wrong][0])}, the top {height} x {width} places; "
            "scale or size must give back the size of what the pooling layer read"
        )
    top = _Unpool.apply(x.flatten(0, 1).flatten(1), index, height * width)  # type: ignore[no-untyped-call]
    unpooled: Tensor = top.reshape(*x.shape[:2], height, width)
    return unpooled


@register_layer("Upsample")
class Upsample(Layer):
    """Source: alexgkendall/caffe-segnet upsample_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Bottoms: data and mask.

        Raises:
            LayerError: the mask names places that the top does not have.
        """
        op = self.spec.options(Options)
        x, mask = bottoms
        (shape,) = op.top_shapes([tuple(x.shape), tuple(mask.shape)])
        with named(self.spec):
            return (unpool(x, mask, shape[2], shape[3]),)
