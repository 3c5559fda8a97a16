"""Crop."""

from __future__ import annotations

from torch import Tensor

from caffe_port.spec.ops.resampling import Crop as Options
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


@register_rule("Crop")
def crop(passage: Passage, points: Tensor) -> list[Link]:
    """The same value, by the offset further on, in the bottom that was cut.

    Source: ours; Seg-Unravel left Crop open.
    """
    op = passage.module.spec.op
    assert isinstance(op, Options)
    shape, reference = (tuple(bottom.shape) for bottom in passage.bottoms)
    starts = [start for start, _ in op.ranges(shape, reference)]
    axes = coordinates(points, passage.tops[0].shape)
    moved = [axis + start for axis, start in zip(axes, starts, strict=True)]
    return [Link(0, every(points), flat(moved, shape))]
