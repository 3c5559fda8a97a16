"""Tracing rules of layers that arrange values or change height and width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_port.layers.resampling import starts
from caffe_port.layers.resizing import taps
from caffe_port.spec.ops import resampling as sizes
from caffe_port.spec.ops import shapes as ops
from caffe_port.spec.ops.arithmetic import Eltwise
from caffe_port.spec.ops.resizing import Reorg, Resized
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


@register_rule("Interp")
def interp(passage: Passage, points: Tensor) -> list[Link]:
    """The value of the same channel at place // zoom * shrink.

    Where the top's height and width are given, the place above or left of the one that aligned
    corners give. pad_beg is added (upstream supports neither).

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, sizes.Interp)
    bottom = passage.bottoms[0]
    image, channel, *place = coordinates(points, passage.tops[0].shape)
    found = []
    for axis, at in enumerate(place, 2):
        size, top = bottom.shape[axis], passage.tops[0].shape[axis]
        begin, cropped = -op.pad_beg, size + op.pad_beg + op.pad_end
        if op.nearest:
            source = at * cropped // top
        elif _by_factors(op) and len(passage.bottoms) == 1:
            source = at // (op.zoom_factor or 1) * (op.shrink_factor or 1)
        else:
            source = at * (cropped - 1) // max(1, top - 1)
        found.append((source + begin).clamp(max=size - 1))
    return [Link(0, every(points), flat([image, channel, *found], bottom.shape))]


def _by_factors(op: sizes.Interp) -> bool:
    one_factor = (op.zoom_factor is None) != (op.shrink_factor is None)
    return one_factor or op.height is None or op.width is None


@register_rule("AutoCrop", "Crop")
def crop(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the cropped bottom, moved by the offset.

    Source: ours; Seg-Unravel has no rule for Crop.
    """
    op = passage.module.spec.op
    assert isinstance(op, sizes.Crop)
    shape, reference = (tuple(bottom.shape) for bottom in passage.bottoms)
    starts = [start for start, _ in op.ranges(shape, reference)]
    axes = coordinates(points, passage.tops[0].shape)
    moved = [axis + start for axis, start in zip(axes, starts, strict=True)]
    return [Link(0, every(points), flat(moved, shape))]


@register_rule("ResizeBilinear", "ResizeNearestNeighbor")
def resized(passage: Passage, points: Tensor) -> list[Link]:
    """The value above or left of a place, in the same channel. Source: ours."""
    op, shape = passage.module.spec.op, passage.bottoms[0].shape
    assert isinstance(op, Resized)
    axes = list(coordinates(points, passage.tops[0].shape))
    for axis in (op.first, op.first + 1):
        first, _, _ = taps(op, shape[axis], passage.tops[0].shape[axis])
        axes[axis] = torch.tensor(first, device=points.device)[axes[axis]]
    return [Link(0, every(points), flat(axes, shape))]


@register_rule("Reorg")
def reorg(passage: Passage, points: Tensor) -> list[Link]:
    """The same value, at its place in the bottom. Source: ours."""
    op, bottom = passage.module.spec.op, passage.bottoms[0]
    assert isinstance(op, Reorg)
    axes, order = op.moves(tuple(bottom.shape))
    places = coordinates(points, [axes[i] for i in order])
    back = dict(zip(order, places, strict=True))
    return [Link(0, every(points), flat([back[i] for i in range(len(axes))], axes))]


@register_rule("Padding")
def padding(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the bottom; points in the padding are dropped. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, sizes.Padding)
    shape = passage.bottoms[0].shape
    image, channel, *place = coordinates(points, passage.tops[0].shape)
    moved = [at - op.before for at in place]
    inside = torch.ones_like(points, dtype=torch.bool)
    for at, size in zip(moved, shape[2:], strict=True):
        inside &= (at >= 0) & (at < size)
    target = flat([image, channel, *moved], shape)
    return [Link(0, inside.nonzero()[:, 0], target[inside])]


@register_rule("Upsample", "Unpooling")
def unpooled(passage: Passage, points: Tensor) -> list[Link]:
    """The value that was put at the place or repeated there; places without one are dropped.

    Source: ours; Seg-Unravel has no such rule.
    """
    op, x, top = passage.module.spec.op, passage.bottoms[0], passage.tops[0]
    if isinstance(op, sizes.Unpooling) and op.method == "MAX" and len(passage.bottoms) == 1:
        return _placed(points, starts(x, op).expand(x.shape), top.shape)
    if len(passage.bottoms) == 2 and getattr(op, "method", "MAX") == "MAX":
        return _placed(points, passage.bottoms[1], top.shape)
    image, channel, *place = coordinates(points, top.shape)
    repeats = op.scale if isinstance(op, sizes.Upsample) else op.kernel  # type: ignore[attr-defined]
    steps = op.scale if isinstance(op, sizes.Upsample) else op.stride  # type: ignore[attr-defined]
    found, inside = [], torch.ones_like(points, dtype=torch.bool)
    for i, at in enumerate(place):
        source = (at // steps[i]).clamp(max=x.shape[2 + i] - 1)
        inside &= at - source * steps[i] < repeats[i]
        found.append(source)
    target = flat([image, channel, *found], x.shape)
    return [Link(0, inside.nonzero()[:, 0], target[inside])]


def _placed(points: Tensor, mask: Tensor, top: torch.Size) -> list[Link]:
    """The last value whose mask names the point's place."""
    plane = top[2] * top[3]
    index = mask.long().flatten(0, 1).flatten(1)
    position = torch.arange(index.shape[1], device=index.device).expand_as(index)
    last = index.new_full((len(index), plane), -1)
    last.scatter_reduce_(1, index, position, "amax")
    row = points // plane
    source = last[row, points % plane]
    found = (source >= 0).nonzero()[:, 0]
    return [Link(0, found, (row * index.shape[1] + source)[found])]
