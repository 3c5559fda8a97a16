"""Tracing rules of layers that change height and width."""

from __future__ import annotations

from torch import Tensor

from caffe_port.spec.ops import resampling as ops
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules.shapes import coordinates, every, flat


@register_rule("Interp")
def interp(passage: Passage, points: Tensor) -> list[Link]:
    """The value of the same channel at place // zoom * shrink.

    Where the top's height and width are given, the place above or left of the one that aligned
    corners give. pad_beg is added (upstream supports neither).

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.Interp)
    (bottom,) = passage.bottoms
    image, channel, *place = coordinates(points, passage.tops[0].shape)
    found = []
    for axis, at in enumerate(place, 2):
        size, top = bottom.shape[axis], passage.tops[0].shape[axis]
        begin, cropped = -op.pad_beg, size + op.pad_beg + op.pad_end
        if _by_factors(op):
            source = at // (op.zoom_factor or 1) * (op.shrink_factor or 1)
        else:
            source = at * (cropped - 1) // max(1, top - 1)
        found.append((source + begin).clamp(max=size - 1))
    return [Link(0, every(points), flat([image, channel, *found], bottom.shape))]


def _by_factors(op: ops.Interp) -> bool:
    one_factor = (op.zoom_factor is None) != (op.shrink_factor is None)
    return one_factor or op.height is None or op.width is None


@register_rule("Crop")
def crop(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the cropped bottom, moved by the offset.

    Source: ours; Seg-Unravel has no rule for Crop.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.Crop)
    shape, reference = (tuple(bottom.shape) for bottom in passage.bottoms)
    starts = [start for start, _ in op.ranges(shape, reference)]
    axes = coordinates(points, passage.tops[0].shape)
    moved = [axis + start for axis, start in zip(axes, starts, strict=True)]
    return [Link(0, every(points), flat(moved, shape))]
