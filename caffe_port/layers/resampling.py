"""Modules: blobs of another height and width."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, checks, is_exporting, learns, named, register_layer
from caffe_port.spec.ops import resampling as ops


@register_layer("Interp")
class Interp(Layer):
    """Crops, then resizes with aligned corners; torch computes the same numbers as DeepLab.

    Source: DeepLab v2 interp_layer.cpp, interp.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Interp)
        x = bottoms[0]
        size = op.top_shapes([tuple(blob.shape) for blob in bottoms])[0][2:]
        begin, height, width = -op.pad_beg, x.shape[2] + op.pad_end, x.shape[3] + op.pad_end
        x = x[:, :, begin:height, begin:width]
        # an exported net takes any size, so it may not depend on this one
        if not is_exporting() and tuple(x.shape[2:]) == size:
            return (x.clone(),)
        if op.nearest:
            for i in (0, 1):
                steps = torch.arange(size[i], device=x.device, dtype=torch.float64)
                rows = (steps * (x.shape[2 + i] / size[i])).floor().long()
                x = x.index_select(2 + i, rows.clamp(max=x.shape[2 + i] - 1))
            return (x,)
        if x.dtype == torch.float64:
            return (_resized_exactly(x, size),)
        return (functional.interpolate(x, size, mode="bilinear", align_corners=True),)


def _resized_exactly(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resizes in float64, at the positions that Caffe computes in float32 by its definition.

    torch would compute the positions in float64 too, which shifts them by up to 1e-6 of a map.
    """
    rows, columns = (_weights(x.shape[2 + i], size[i]).to(x.device) for i in (0, 1))
    return torch.einsum("oh,nchw,pw->ncop", rows, x, columns)


def _weights(size: int, wanted: int) -> Tensor:
    """Bilinear weights as a matrix (wanted, size), float64."""
    ratio = np.float32(size - 1) / np.float32(wanted - 1) if wanted > 1 else np.float32(0)
    positions = ratio * np.arange(wanted, dtype=np.float32)
    first = positions.astype(np.int64)
    share = (positions - first.astype(np.float32)).astype(np.float64)
    weights = np.zeros((wanted, size))
    places = np.arange(wanted)
    weights[places, first] = 1 - share
    weights[places, np.minimum(first + 1, size - 1)] += share
    return torch.from_numpy(weights)


@register_layer("Crop")
@register_layer("AutoCrop")
class Crop(Layer):
    """Source: BVLC/caffe crop_layer.cpp; yun-liu/RCF auto_crop_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Crop)
        x, reference = bottoms
        kept = op.ranges(tuple(x.shape), tuple(reference.shape))
        return (x[tuple(slice(start, start + size) for start, size in kept)],)


def _placed(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Writes each value (rows, n) to its index; of several for one index the last is kept."""
    # selects the last value of each place, whatever the order of writing
    position = torch.arange(values.shape[1], device=values.device).expand_as(index)
    last = index.new_full((len(index), size), -1)
    last.scatter_reduce_(1, index, position, "amax")
    found = values.gather(1, last.clamp(min=0))
    return torch.where(last >= 0, found, torch.zeros_like(found))


class _Unpool(torch.autograd.Function):
    """``_placed`` with Caffe's diff.

    All values for one index get the diff of that index, as in Caffe; autograd of a scatter does the
    same, but torch does not define which of the values it writes.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(index)
        return _placed(values, index, size)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return diffs[0].gather(1, index), None, None


def unpool(x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Zeros, with x's values at the indices in a mask.

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
    if checks() and bool(wrong.any()):
        raise ValueError(
            f"the mask holds index {int(index[wrong][0])}, the top {height} x {width} places; "
            "scale or size must give back the size of what the pooling layer read"
        )
    place = _Unpool.apply if learns(x) else _placed
    top = place(x.flatten(0, 1).flatten(1), index, height * width)
    unpooled: Tensor = top.reshape(*x.shape[:2], height, width)
    return unpooled


@register_layer("Upsample")
class Upsample(Layer):
    """Source: alexgkendall/caffe-segnet upsample_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Bottoms: data and mask.

        Raises:
            LayerError: the mask holds indices outside of the top.
        """
        op = self.spec.options(ops.Upsample)
        if len(bottoms) == 1:
            rows = bottoms[0].repeat_interleave(op.scale[0], 2)
            top = rows.repeat_interleave(op.scale[1], 3)
            return (top[:, :, : top.shape[2] - op.less[0], : top.shape[3] - op.less[1]],)
        x, mask = bottoms
        (shape,) = op.top_shapes([tuple(x.shape), tuple(mask.shape)])
        with named(self.spec):
            return (unpool(x, mask, shape[2], shape[3]),)


@register_layer("Padding")
class Padding(Layer):
    """Source: DeepLab v1 padding_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Padding)
        op.top_shapes([tuple(bottoms[0].shape)])  # which checks the sizes
        return (functional.pad(bottoms[0], (op.before, op.after) * 2),)


def starts(x: Tensor, op: ops.Unpooling) -> Tensor:
    """The index, in the top's plane, of the first place of each value's window: (1, 1, H, W)."""
    rows, columns = (
        (torch.arange(x.shape[2 + i], device=x.device) * op.stride[i]).clamp(max=op.size[i] - 1)
        for i in (0, 1)
    )
    return (rows[:, None] * op.size[1] + columns)[None, None]


def spread(x: Tensor, op: ops.Unpooling) -> Tensor:
    """Each value added to its window, for AVE after division by the window's area in the top.

    Args:
        x: (N, C, H, W).
        op: options of the method 'AVE' or 'TILE'.
    Returns:
        (N, C, *size).
    Source: HyeonwooNoh/caffe unpooling_layer.cpp, Forward_cpu.
    """
    if op.method == "AVE":
        areas = [
            (op.size[i] - torch.arange(x.shape[2 + i], device=x.device) * op.stride[i]).clamp(
                1, op.kernel[i]
            )
            for i in (0, 1)
        ]
        x = x / (areas[0][:, None] * areas[1]).to(x.dtype)
    ones = x.new_ones(1, 1, *op.kernel)
    tiled = functional.conv_transpose2d(x.flatten(0, 1)[:, None], ones, stride=op.stride)
    fit = [op.size[i] - tiled.shape[2 + i] for i in (0, 1)]
    fitted = functional.pad(tiled, (0, fit[1], 0, fit[0]))
    return fitted.reshape(*x.shape[:2], *op.size)


@register_layer("Unpooling")
class Unpooling(Layer):
    """Source: HyeonwooNoh/caffe unpooling_layer.cpp; Noh et al., Learning Deconvolution Network for
    Semantic Segmentation, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Bottoms: data and, for MAX, perhaps a mask.

        Raises:
            LayerError: the mask holds indices outside of the top.
        """
        op, x = self.spec.options(ops.Unpooling), bottoms[0]
        if op.method != "MAX":
            return (spread(x, op),)
        mask = bottoms[1] if len(bottoms) == 2 else starts(x, op).expand(x.shape)
        with named(self.spec):
            return (unpool(x, mask, *op.size),)
