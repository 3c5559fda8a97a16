"""Eltwise."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.spec.ops.arithmetic import Eltwise as Options
from caffe_port.unravel.rules._registry import Link, Passage, register_rule


@register_rule("Eltwise")
def eltwise(passage: Passage, points: Tensor) -> list[Link]:
    """The bottom with the largest value at the point; the first one among equals.

    A SUM's value is taken times its coeff, which is what is added (upstream leaves coeff out).

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, Options)
    values = torch.stack([bottom.flatten()[points] for bottom in passage.bottoms])
    if op.operation == "SUM":
        values = values * values.new_tensor(op.coeff)[:, None]
    winner = values.argmax(0)
    links = []
    for i in range(len(passage.bottoms)):
        source = (winner == i).nonzero()[:, 0]
        links.append(Link(i, source, points[source]))
    return links
