"""InnerProduct."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_port.spec.ops.filters import InnerProduct as Options
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules._windows import Chosen, batches, strongest


@register_rule("InnerProduct")
def inner_product(passage: Passage, points: Tensor) -> list[Link]:
    """As a Convolution whose filters cover the whole bottom.

    The first of the axes taken as one vector holds the channels, the others are the window.

    Source: ours; a fully connected layer turned into a convolution gives the same points.
    """
    op = passage.module.spec.op
    assert isinstance(op, Options)
    (x,) = passage.bottoms
    axis = op.axis % x.dim()
    lead, (channels, *spatial) = math.prod(x.shape[:axis]), x.shape[axis:]
    weight = passage.module.param("weight").detach()
    weight = weight.t() if op.transpose else weight
    weight = weight.reshape(op.num_output, channels, -1).transpose(1, 2).contiguous()
    last = x.reshape(lead, channels, -1).transpose(1, 2)
    image, out = coordinates(points, (lead, op.num_output))
    parts = batches(len(points), weight[0].numel(), x.device)
    chosen = Chosen.join([strongest(last[image[p]] * weight[out[p]], passage.k) for p in parts])
    tap = chosen.tap
    if passage.shift == "no_shift":
        centre = flat([torch.tensor(size // 2) for size in (1, *spatial)], (1, *spatial))
        tap = torch.full_like(tap, int(centre))
    target = flat([image[:, None], chosen.channel, tap], (lead, channels, last.shape[1]))
    source = every(points)[:, None].expand_as(target)
    return [Link(0, source.flatten(), target.flatten())]
