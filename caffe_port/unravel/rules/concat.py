"""Concat."""

from __future__ import annotations

from torch import Tensor

from caffe_port.spec.ops.shapes import Concat as Options
from caffe_port.unravel.rules._axes import coordinates, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


@register_rule("Concat")
def concat(passage: Passage, points: Tensor) -> list[Link]:
    """The same value in the bottom it came from. Source: ours."""
    op = passage.module.spec.op
    assert isinstance(op, Options)
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
