"""Tracing rules of layers that arrange values, and flat indices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_port.spec.ops import shapes as ops
from caffe_port.spec.ops.arithmetic import Eltwise
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


def coordinates(points: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """The coordinates of flat indices into a blob of that shape, a tensor per axis."""
    result = []
    for size in reversed(shape):
        result.append(points % size)
        points = points // size
    return tuple(result[::-1])


def flat(axes: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """The flat indices of coordinates, which are broadcast."""
    total = axes[0]
    for axis, size in zip(axes[1:], shape[1:], strict=True):
        total = total * size + axis
    return total


def every(points: Tensor) -> Tensor:
    """The source of a link in which each point goes to one place."""
    return torch.arange(len(points), device=points.device)


@register_rule("Concat")
def concat(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the bottom it came from. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, ops.Concat)
    axes = list(coordinates(points, passage.tops[0].shape))
    place, start, links = axes[op.axis], 0, []
    for i, bottom in enumerate(passage.bottoms):
        end = start + bottom.shape[op.axis]
        source = ((place >= start) & (place < end)).nonzero()[:, 0]
        own = [axis[source] for axis in axes]
        own[op.axis] = own[op.axis] - start
        links.append(Link(i, source, flat(own, bottom.shape)))
        start = end
    return links


@register_rule("Slice")
def cut(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the bottom, after those of the tops before. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, ops.Slice)
    (bottom,) = passage.bottoms
    axes = list(coordinates(points, passage.tops[passage.top].shape))
    before = sum(op.sizes(bottom.shape[op.axis])[: passage.top])
    axes[op.axis] = axes[op.axis] + before
    return [Link(0, every(points), flat(axes, bottom.shape))]


@register_rule("Permute")
def permute(passage: Passage, points: Tensor) -> list[Link]:
    """The same value, with the axes in the bottom's order. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, ops.Permute)
    (bottom,) = passage.bottoms
    axes = coordinates(points, passage.tops[0].shape)
    back = dict(zip(op.full_order(bottom.dim()), axes, strict=True))
    return [Link(0, every(points), flat([back[i] for i in range(bottom.dim())], bottom.shape))]


@register_rule("Axpy")
def axpy(passage: Passage, points: Tensor) -> list[Link]:
    """As Eltwise's rule for a sum: the scaled blob or the added one, whichever is larger.

    Source: ours.
    """
    scale, x, y = passage.bottoms
    scaled = scale.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) * x
    first = scaled.flatten()[points] >= y.flatten()[points]
    sources = [(first == wanted).nonzero()[:, 0] for wanted in (True, False)]
    return [Link(1 + i, source, points[source]) for i, source in enumerate(sources)]


@register_rule("Eltwise")
def eltwise(passage: Passage, points: Tensor) -> list[Link]:
    """The bottom with the largest value at the point; the first one among equals.

    For SUM the values are multiplied by coeff (upstream ignores coeff).

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, Eltwise)
    values = torch.stack([bottom.flatten()[points] for bottom in passage.bottoms])
    if op.operation == "SUM":
        values = values * values.new_tensor(op.coeff)[:, None]
    winner = values.argmax(0)
    links = []
    for i in range(len(passage.bottoms)):
        source = (winner == i).nonzero()[:, 0]
        links.append(Link(i, source, points[source]))
    return links
