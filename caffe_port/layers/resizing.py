"""Modules: TensorFlow's resizes, and YOLO's exchange of pixels for channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops import resizing as ops


def taps(op: ops.Resized, size: int, wanted: int) -> tuple[list[int], list[int], list[float]]:
    """Two places of the bottom for each place of the top along an axis, and the second's share.

    All numbers are float32's, as upstream's. For the nearest neighbour both places are one.

    Source: synopsys-caffe resize_bilinear_layer.cpp, compute_interpolation_weights;
        resize_nearest_neighbor_layer.cpp, Forward_cpu.
    """
    corners = op.aligned and wanted > 1
    scale = np.float32(size - 1) / np.float32(wanted - 1) if corners else (
        np.float32(size) / np.float32(wanted)
    )  # fmt: skip
    at = (np.arange(wanted, dtype=np.float32) + np.float32(op.shift[0])) * scale
    at = at - np.float32(op.shift[1])
    if isinstance(op, ops.ResizeNearestNeighbor):
        near = np.floor(at + np.float32(0.5)) if op.aligned else np.floor(at)
        place = np.clip(near, 0, size - 1).astype(int).tolist()
        return place, place, [0.0] * wanted
    low = np.floor(at)
    first, second = np.clip(low, 0, size - 1), np.clip(np.ceil(at), 0, size - 1)
    return first.astype(int).tolist(), second.astype(int).tolist(), (at - low).tolist()


@register_layer("ResizeBilinear")
@register_layer("ResizeNearestNeighbor")
class Resized(Layer):
    """Along the width, then along the height, as upstream rounds. Source: synopsys-caffe."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op, (x,) = self.spec.options(ops.Resized), bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        for axis in (op.first + 1, op.first):
            first, second, share = taps(op, x.shape[axis], shape[axis])
            low = x.index_select(axis, torch.tensor(first, device=x.device))
            if any(share):
                high = x.index_select(axis, torch.tensor(second, device=x.device))
                weight = x.new_tensor(share).reshape([-1] + [1] * (x.dim() - 1 - axis))
                low = low + (high - low) * weight
            x = low
        return (x,)


@register_layer("Reorg")
class Reorg(Layer):
    """Moves values between pixels and channels; the diffs return to where the values were.

    Source: pjreddie/darknet blas.c, reorg_cpu, and reorg_layer.c.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op, (x,) = self.spec.options(ops.Reorg), bottoms
        with named(self.spec):
            (shape,) = op.top_shapes([tuple(x.shape)])
        axes, order = op.moves(tuple(x.shape))
        return (x.reshape(axes).permute(order).reshape(shape),)
