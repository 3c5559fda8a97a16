"""Modules: Pooling, SPP and LRN."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops import pooling as ops

_FLT_MAX = torch.finfo(torch.float32).max


def _frame(x: Tensor, op: ops.Pooling, fill: float) -> tuple[Tensor, tuple[int, int]]:
    """Pads so that every window of Caffe's is inside: pad on the left, more on the right."""
    kernel = op.window(tuple(x.shape))
    out = op.top_shapes([tuple(x.shape)])[0][2:]
    right = [
        max((out[i] - 1) * op.stride[i] + kernel[i] - x.shape[2 + i] - op.pad[i], 0) for i in (0, 1)
    ]
    frame = (op.pad[1], right[1], op.pad[0], right[0])
    padded = functional.pad(x, frame, value=fill) if any(frame) else x
    # values beyond this belong to no window
    used = [(out[i] - 1) * op.stride[i] + kernel[i] for i in (0, 1)]
    return padded[..., : used[0], : used[1]], kernel


def max_pool(x: Tensor, op: ops.Pooling) -> tuple[Tensor, Tensor]:
    """Maximum of each window and its index in the bottom's plane.

    Padding is -FLT_MAX, which is also Caffe's maximum of a window that contains nothing else. Of
    equal values the first in row order counts.

    Args:
        x: (N, C, H, W).
        op: options.
    Returns:
        The maxima and h * W + w of each, both (N, C, H', W'); the index is -1 for a window outside.
    Source: BVLC/caffe pooling_layer.cpp, Forward_cpu.
    """
    framed, kernel = _frame(x, op, max(-_FLT_MAX, torch.finfo(x.dtype).min))
    top, index = functional.max_pool2d(framed, kernel, op.stride, return_indices=True)
    row = index // framed.shape[3] - op.pad[0]
    column = index % framed.shape[3] - op.pad[1]
    inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
    return top, torch.where(inside, row * x.shape[3] + column, -1)


def ave_pool(x: Tensor, op: ops.Pooling) -> Tensor:
    """Average of each window, divided by the area of its part within the padded bottom.

    A window that starts after the padding has an area below 0 and the sum 0, which gives 0 or -0.

    Args:
        x: (N, C, H, W).
        op: options.
    Returns:
        (N, C, H', W').
    Source: BVLC/caffe pooling_layer.cpp, Forward_cpu.
    """
    framed, kernel = _frame(x, op, 0.0)
    sums = functional.avg_pool2d(framed, kernel, op.stride, divisor_override=1)
    areas = [
        (start + kernel[i]).clamp(max=x.shape[2 + i] + 2 * op.pad[i]) - start
        for i in (0, 1)
        for start in [torch.arange(sums.shape[2 + i], device=x.device) * op.stride[i]]
    ]
    return sums / (areas[0][:, None] * areas[1][None, :]).to(x.dtype)


def _torch_has_windows(op: ops.Pooling) -> bool:
    """Whether torch has Caffe's windows for every bottom, so that no padding has to be added.

    torch pads by at most half a kernel. In ceil_mode it always leaves out a last window that starts
    behind the bottom, Caffe only where there is padding; such a window needs a stride above the
    kernel.
    """
    if op.kernel is None:
        return True
    axes = list(zip(op.kernel, op.stride, op.pad, strict=True))
    fits = all(2 * pad <= kernel for kernel, _, pad in axes)
    within = all(stride <= kernel for kernel, stride, _ in axes)
    return fits and (not op.ceil or max(op.pad) > 0 or within)


@register_layer("Pooling")
class Pooling(Layer):
    """MAX or AVE pooling; a second top of MAX holds the indices."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,), op = bottoms, self.spec.options(ops.Pooling)
        if len(self.spec.tops) == 1 and _torch_has_windows(op):
            op.top_shapes([tuple(x.shape)])  # which checks the sizes
            pool = functional.avg_pool2d if op.method == "AVE" else functional.max_pool2d
            return (pool(x, op.window(tuple(x.shape)), op.stride, op.pad, ceil_mode=op.ceil),)
        if op.method == "AVE":
            return (ave_pool(x, op),)
        top, mask = max_pool(x, op)
        return (top, mask.to(x.dtype))[: len(self.spec.tops)]


@register_layer("SPP")
class SPP(Layer):
    """Pools in 1 x 1, 2 x 2, 4 x 4, .. bins and joins the levels, flattened.

    A single level stays (N, C, 1, 1). Source: BVLC/caffe spp_layer.cpp; the method is He et al.,
    Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, 2014.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.SPP)
        (x,) = bottoms
        with named(self.spec):
            levels = op.levels(tuple(x.shape))
        pooled = [
            ave_pool(x, level) if op.method == "AVE" else max_pool(x, level)[0] for level in levels
        ]
        if len(pooled) == 1:
            return (pooled[0],)
        return (torch.cat([level.flatten(1) for level in pooled], 1),)


def normalize_within_channel(x: Tensor, op: ops.LRN) -> Tensor:
    """x * (1 + alpha * average of squares around it) ^ -beta.

    The average is AVE pooling's, so at the border it divides by the padded window. k is not used.

    Args:
        x: (N, C, H, W).
        op: options.
    Source: BVLC/caffe lrn_layer.cpp, WithinChannelForward.
    """
    size, pad = op.local_size, (op.local_size - 1) // 2
    window = ops.Pooling("AVE", (size, size), (1, 1), (pad, pad), ceil=True)
    return x * (ave_pool(x.square(), window) * op.alpha + 1).pow(-op.beta)


def running_scale(x: Tensor, op: ops.LRN) -> Tensor:
    """k + alpha / size * the sum of squares around each channel, in the order of Caffe's sums.

    It is one running sum, to which each channel is added and from which it is subtracted later: its
    rounding errors remain, also those made while a large value was included.

    Args:
        x: (N, C, H, W).
        op: options.
    Source: BVLC/caffe lrn_layer.cpp, CrossChannelForward_cpu.
    """
    size, reach = op.local_size, op.local_size // 2
    parts = (x.square() * (op.alpha / size)).unbind(1)
    zero = torch.zeros_like(parts[0])
    padded = [*[zero] * reach, *parts, *[zero] * reach]
    total = zero + op.k
    for part in padded[:size]:
        total = total + part
    scales = [total]
    for entering, leaving in zip(padded[size:], padded, strict=False):
        total = total + entering - leaving
        scales.append(total)
    return torch.stack(scales, 1)


@register_layer("LRN")
class LRN(Layer):
    """Across channels torch's function is Caffe's: alpha / size inside the sum, k added.

    Attributes:
        in_order: add the numbers one after the other, as Caffe does. It is slow; an analysis
            of rounding errors sets it.
    Source: BVLC/caffe lrn_layer.cpp.
    """

    in_order = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.LRN)
        (x,) = bottoms
        if op.within:
            return (normalize_within_channel(x, op),)
        if self.in_order:
            return (x * running_scale(x, op).pow(-op.beta),)
        width = op.width(x.shape[1])
        alpha = op.alpha * width / op.local_size
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # torch has no other
        top = functional.local_response_norm(wide, width, alpha, op.beta, op.k)
        return (top.to(x.dtype),)
