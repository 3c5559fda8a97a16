"""Pooling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_port.spec.ops.pooling import Pooling as Options
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules._windows import last_argmax, reach


@register_rule("Pooling")
def pooling(passage: Passage, points: Tensor) -> list[Link]:
    """The largest value of the window, in the same channel, for MAX and for AVE.

    Padding counts as zeros, and a place in it is moved to the blob's edge; what hangs over beyond
    the padding is no part of the window, and a point whose window lies wholly there ends. A mask
    top's points go the same way.

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, Options)
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
