"""Deconvolution."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.spec.ops.filters import Filtered, Window
from caffe_port.unravel.rules._axes import coordinates, every, flat
from caffe_port.unravel.rules._filters import read_filters, shifts
from caffe_port.unravel.rules._registry import Link, Passage, register_rule
from caffe_port.unravel.rules._windows import batches, largest, last_argmax

_Taps = tuple[Tensor, Tensor, Tensor]  # places in the bottom, filter taps, validity: each (P, T)


@register_rule("Deconvolution")
def deconvolution(passage: Passage, points: Tensor) -> list[Link]:
    """The k channels of the bottom that add most to a point, and one place in each.

    The mirror of Convolution's rule: of all values of the bottom whose filter reaches the point,
    the products with the filter are summed per channel; the place is that of the channel's largest
    product or, where the shift type says so, the one whose filter has its centre nearest to the
    point. A point that no filter reaches ends there.

    Source: ours; Seg-Unravel left Deconvolution open.
    """
    op = passage.module.spec.op
    assert isinstance(op, Filtered)
    x, weight, window, image, out, place = read_filters(passage, op, points)
    each, channels = op.num_output // op.group, x.shape[1] // op.group
    group, filter = out // each, out % each
    last = x.reshape(len(x), op.group, channels, -1).transpose(2, 3)  # (.., place, channel)
    # weight is (in, out / group, taps)
    weight = weight.view(op.group, channels, each, -1).permute(0, 2, 3, 1).contiguous()
    where, taps, valid = _reaching(place, window, tuple(x.shape[2:]))
    found = []
    for part in batches(len(points), where.shape[1] * channels, x.device):
        values = last[image[part, None], group[part, None], where[part]]
        factors = weight[group[part, None], filter[part, None], taps[part]]
        found.append(_choose(values * factors, valid[part], passage.k))
    channel, best = (torch.cat(each_part) for each_part in zip(*found, strict=True))
    if not shifts(window, passage.shift):
        best = _central(taps, valid, window)[:, None].expand_as(channel)
    at = where.gather(1, best)
    axes = [image[:, None], group[:, None] * channels + channel, at]
    target = flat(axes, (len(x), x.shape[1], last.shape[2]))
    source = every(points)[:, None].expand_as(target)
    reached = valid.any(1)[:, None].expand_as(target)
    return [Link(passage.top, source[reached], target[reached])]


def _reaching(place: list[Tensor], window: Window, spatial: tuple[int, ...]) -> _Taps:
    """Values of the bottom that reach each point, in their order, and with which filter tap."""
    where = torch.zeros_like(place[0])[:, None]
    taps, valid = where, where == 0
    for i, at in enumerate(place):
        stride, dilation, kernel = window.stride[i], window.dilation[i], window.kernel[i]
        most = (window.extent(i) - 1) // stride + 1
        last = (at + window.pad[i]) // stride
        source = last[:, None] - torch.arange(most - 1, -1, -1, device=at.device)
        reach = at[:, None] + window.pad[i] - source * stride
        tap = reach // dilation
        inside = (source >= 0) & (source < spatial[i]) & (reach % dilation == 0) & (tap < kernel)
        where = _outer(where * spatial[i], source.clamp(0, spatial[i] - 1))
        taps = _outer(taps * kernel, tap.clamp(0, kernel - 1))
        valid = (valid[:, :, None] & inside[:, None]).flatten(1)
    return where, taps, valid


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, :, None] + b[:, None]).flatten(1)


def _choose(products: Tensor, valid: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k channels with the largest sums, and the place of the largest product in each."""
    sums = products.masked_fill(~valid[:, :, None], 0).sum(1)
    channel = largest(sums, k)
    own = products.gather(2, channel[:, None].expand(-1, products.shape[1], -1))
    own = own.masked_fill(~valid[:, :, None], -torch.inf)
    return channel, last_argmax(own.transpose(1, 2))


def _central(taps: Tensor, valid: Tensor, window: Window) -> Tensor:
    """The reaching value whose tap is nearest to the filter's centre; the last among equals."""
    distance = torch.zeros_like(taps)
    steps = coordinates(taps, window.kernel)
    for step, kernel, dilation in zip(steps, window.kernel, window.dilation, strict=True):
        distance = distance + (dilation * (2 * step - kernel + 1)) ** 2
    return last_argmax(-distance.masked_fill(~valid, torch.iinfo(torch.int64).max))
