"""Permute."""

from __future__ import annotations

from torch import Tensor

from caffe_port.spec.ops.shapes import Permute as Options
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


@register_rule("Permute")
def permute(passage: Passage, points: Tensor) -> list[Link]:
    """The same value, its axes put back. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, Options)
    (bottom,) = passage.bottoms
    axes = coordinates(points, passage.tops[0].shape)
    back = dict(zip(op.full_order(bottom.dim()), axes, strict=True))
    return [Link(0, every(points), flat([back[i] for i in range(bottom.dim())], bottom.shape))]
