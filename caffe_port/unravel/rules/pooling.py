"""The tracing rule of Pooling, and the choice of the largest entries of many windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_port.spec.ops import pooling as ops
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules.shapes import coordinates, every, flat


class Chosen(NamedTuple):
    """For each window its k best channels and one tap in each, all (P, k) int64."""

    channel: Tensor
    tap: Tensor

    @classmethod
    def join(cls, parts: Sequence[Chosen]) -> Chosen:
        """Joins the windows of several parts."""
        return cls(torch.cat([p.channel for p in parts]), torch.cat([p.tap for p in parts]))


def last_argmax(values: Tensor) -> Tensor:
    """Index of the largest value along the last axis; the highest index among equals."""
    first: Tensor = values.flip(-1).argmax(-1)
    return values.shape[-1] - 1 - first


def largest(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest values along the last axis (all, if there are fewer).

    Of equal values the one with the higher index counts as larger, as in a stable sort.

    Returns:
        (..., k) int64.
    """
    if k == 1:
        return last_argmax(values)[..., None]
    return values.sort(stable=True, dim=-1).indices[..., -k:]


def strongest(products: Tensor, k: int) -> Chosen:
    """The k channels with the largest sum over their window, and the largest product in each.

    Args:
        products: (P, taps, channels) of filter and input.
        k: channels per window.
    """
    channel = largest(products.sum(1), k)
    window = products.gather(2, channel[:, None].expand(-1, products.shape[1], -1))
    return Chosen(channel, last_argmax(window.transpose(1, 2)))


def reach(
    starts: Sequence[Tensor], steps: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The places of the taps of P windows.

    Args:
        starts: per axis the windows' first places, (P,); may be outside.
        steps: per axis the distance of each tap from the first.
        sizes: of the axes.
    Returns:
        Flat places, (P, taps), outside ones moved to the edge; and (P, taps) bool: outside.
    """
    rows = torch.zeros(1, 1, dtype=torch.int64, device=steps[0].device if steps else None)
    outside = rows != 0
    for start, step, size in zip(starts, steps, sizes, strict=True):
        at = start[:, None] + step
        rows = (rows[:, :, None] * size + at.clamp(0, size - 1)[:, None]).flatten(1)
        outside = (outside[:, :, None] | ((at < 0) | (at >= size))[:, None]).flatten(1)
    return rows, outside


def batches(count: int, size: int, device: torch.device) -> list[slice]:
    """Slices of ``count`` windows of ``size`` values each that stay in a processor's cache."""
    values = 1 << (18 if device.type == "cpu" else 26)
    step = max(1, values // max(1, size))
    return [slice(start, start + step) for start in range(0, count, step)]


@register_rule("Pooling")
def pooling(passage: Passage, points: Tensor) -> list[Link]:
    """The largest value of the window, in the same channel, for MAX and for AVE.

    Padding counts as zeros, and a place in it is moved to the blob's edge. What is beyond the
    padding is not part of the window, and a point whose window is entirely there ends. Points of a
    mask top are traced in the same way.

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.Pooling)
    (x,) = passage.bottoms
    kernel, size = op.window(tuple(x.shape)), x.shape[2:]
    image, channel, *place = coordinates(points, passage.tops[passage.top].shape)
    starts = [at * op.stride[i] - op.pad[i] for i, at in enumerate(place)]
    steps = [torch.arange(n, device=x.device) for n in kernel]
    rows, padding = reach(starts, steps, size)
    framed = [start + pad for start, pad in zip(starts, op.pad, strict=True)]
    _, over = reach(framed, steps, [n + 2 * pad for n, pad in zip(size, op.pad, strict=True)])
    plane = flat([image, channel], x.shape[:2])
    values = x.reshape(-1)[plane[:, None] * math.prod(size) + rows]
    tap = last_argmax(values.masked_fill(padding, 0).masked_fill(over, -torch.inf))
    moves = coordinates(tap, kernel)
    found = [
        (start + move).clamp(0, n - 1) for start, move, n in zip(starts, moves, size, strict=True)
    ]
    covered = ~over.all(1)
    target = flat([image, channel, *found], x.shape)
    return [Link(0, every(points)[covered], target[covered])]
