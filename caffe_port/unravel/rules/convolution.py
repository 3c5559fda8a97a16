"""Convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_port.spec.ops.filters import Filtered, Window
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._filters import read_filters, shifts
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules._windows import Chosen, batches, reach, strongest


@register_rule("Convolution")
def convolution(passage: Passage, points: Tensor) -> list[Link]:
    """The k channels of the window that add most to a point, and one place in each.

    Per channel the products of filter and input are summed over the window (zero padded, dilated,
    only the point's group; the bias is left out) and the k largest sums are followed. The place is
    that of the channel's largest product, or the window's centre where the shift type says so. A
    place in the padding is moved to the blob's edge.

    Source: Seg-Unravel; it goes wrong where groups and dilation meet.
    """
    op = passage.module.spec.op
    assert isinstance(op, Filtered)
    x, weight, window, image, out, place = read_filters(passage, op, points)
    group = out // (op.num_output // op.group)
    starts = [
        at * stride - pad for at, stride, pad in zip(place, window.stride, window.pad, strict=True)
    ]
    windows = _Windows.of(x, window, op.group, starts)
    # weight is (out, channels / group, taps)
    chosen = windows.choose(image * op.group + group, weight.transpose(1, 2), out, passage.k)
    tap = chosen.tap
    if not shifts(window, passage.shift):
        tap = torch.full_like(tap, _centre(window))
    axes = [image[:, None], group[:, None] * weight.shape[1] + chosen.channel]
    for i, step in enumerate(coordinates(tap, window.kernel)):
        at = starts[i][:, None] + step * window.dilation[i]
        axes.append(at.clamp(0, x.shape[2 + i] - 1))
    target = flat(axes, x.shape)
    source = every(points)[:, None].expand_as(target)
    return [Link(passage.top, source.flatten(), target.flatten())]


@dataclass(frozen=True)
class _Windows:
    """The windows of P points in a blob: for each, where its taps are."""

    last: Tensor  # (images * groups, places, channels / group): whole rows are gathered
    rows: Tensor  # (P, taps) places
    outside: Tensor  # (P, taps) bool: in the padding

    @classmethod
    def of(cls, x: Tensor, window: Window, groups: int, starts: list[Tensor]) -> _Windows:
        steps = [
            torch.arange(kernel, device=x.device) * dilation
            for kernel, dilation in zip(window.kernel, window.dilation, strict=True)
        ]
        rows, outside = reach(starts, steps, x.shape[2:])
        last = x.reshape(len(x) * groups, x.shape[1] // groups, -1).transpose(1, 2)
        # turning the whole blob pays only where most of it is looked at
        return cls(last if rows.numel() < last.shape[1] else last.contiguous(), rows, outside)

    def choose(self, image: Tensor, weight: Tensor, out: Tensor, k: int) -> Chosen:
        """Follows the filters ``out`` of weight (out, taps, channels)."""
        weight = weight if len(out) < len(weight) else weight.contiguous()
        parts = []
        for part in batches(len(out), weight[0].numel(), out.device):
            values = self.last[image[part, None], self.rows[part]]
            values[self.outside[part]] = 0
            parts.append(strongest(values.mul_(weight[out[part]]), k))
        return Chosen.join(parts)


def _centre(window: Window) -> int:
    tap = 0
    for kernel in window.kernel:
        tap = tap * kernel + kernel // 2
    return tap
