"""Slice."""

from __future__ import annotations

from torch import Tensor

from caffe_port.spec.ops.shapes import Slice as Options
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


@register_rule("Slice")
def cut(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the bottom, behind the tops before. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, Options)
    (bottom,) = passage.bottoms
    axes = list(coordinates(points, passage.tops[passage.top].shape))
    before = sum(op.sizes(bottom.shape[op.axis])[: passage.top])
    axes[op.axis] = axes[op.axis] + before
    return [Link(0, every(points), flat(axes, bottom.shape))]
