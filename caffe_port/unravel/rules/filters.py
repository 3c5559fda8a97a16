"""Tracing rules of layers with windows: the channels, or the entries, that contributed most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_port.spec.ops import filters as ops
from caffe_port.spec.ops import pooling as windows
from caffe_port.unravel.rules._registry import Link, Passage, Shift, register_rule
from caffe_port.unravel.rules.shapes import coordinates, every, flat


class Chosen(NamedTuple):
    """For each window its k best channels and one tap in each, all (P, k) int64."""

    channel: Tensor
    tap: Tensor

    @classmethod
    def join(cls, parts: Sequence[Chosen]) -> Chosen:
        """Joins the windows of several parts."""
        return cls(torch.cat([p.channel for p in parts]), torch.cat([p.tap for p in parts]))


def last_argmax(values: Tensor) -> Tensor:
    """Index of the largest value along the last axis; the highest index among equals."""
    first: Tensor = values.flip(-1).argmax(-1)
    return values.shape[-1] - 1 - first


def largest(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest values along the last axis (all, if there are fewer).

    Of equal values the one with the higher index counts as larger, as in a stable sort.

    Returns:
        (..., k) int64.
    """
    if k == 1:
        return last_argmax(values)[..., None]
    return values.sort(stable=True, dim=-1).indices[..., -k:]


def strongest(products: Tensor, k: int) -> Chosen:
    """The k channels with the largest sum over their window, and the largest product in each.

    Args:
        products: (P, taps, channels) of filter and input.
        k: channels per window.
    """
    channel = largest(products.sum(1), k)
    window = products.gather(2, channel[:, None].expand(-1, products.shape[1], -1))
    return Chosen(channel, last_argmax(window.transpose(1, 2)))


def reach(
    starts: Sequence[Tensor], steps: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The places of the taps of P windows.

    Args:
        starts: per axis the windows' first places, (P,); may be outside.
        steps: per axis the distance of each tap from the first.
        sizes: of the axes.
    Returns:
        Flat places, (P, taps), outside ones moved to the edge; and (P, taps) bool: outside.
    """
    rows = torch.zeros(1, 1, dtype=torch.int64, device=steps[0].device if steps else None)
    outside = rows != 0
    for start, step, size in zip(starts, steps, sizes, strict=True):
        at = start[:, None] + step
        rows = (rows[:, :, None] * size + at.clamp(0, size - 1)[:, None]).flatten(1)
        outside = (outside[:, :, None] | ((at < 0) | (at >= size))[:, None]).flatten(1)
    return rows, outside


def batches(count: int, size: int, device: torch.device) -> list[slice]:
    """Slices of ``count`` windows of ``size`` values each that stay in a processor's cache."""
    values = 1 << (18 if device.type == "cpu" else 26)
    step = max(1, values // max(1, size))
    return [slice(start, start + step) for start in range(0, count, step)]


@register_rule("Pooling")
def pooling(passage: Passage, points: Tensor) -> list[Link]:
    """The largest value of the window, in the same channel, for MAX and for AVE.

    Padding counts as zeros, and a place in it is moved to the blob's edge. What is beyond the
    padding is not part of the window, and a point whose window is entirely there ends. Points of a
    mask top are traced in the same way.

    Source: Seg-Unravel.
    """
    op = passage.module.spec.op
    assert isinstance(op, windows.Pooling)
    (x,) = passage.bottoms
    kernel, size = op.window(tuple(x.shape)), x.shape[2:]
    image, channel, *place = coordinates(points, passage.tops[passage.top].shape)
    starts = [at * op.stride[i] - op.pad[i] for i, at in enumerate(place)]
    steps = [torch.arange(n, device=x.device) for n in kernel]
    rows, padding = reach(starts, steps, size)
    framed = [start + pad for start, pad in zip(starts, op.pad, strict=True)]
    _, over = reach(framed, steps, [n + 2 * pad for n, pad in zip(size, op.pad, strict=True)])
    plane = flat([image, channel], x.shape[:2])
    values = x.reshape(-1)[plane[:, None] * math.prod(size) + rows]
    tap = last_argmax(values.masked_fill(padding, 0).masked_fill(over, -torch.inf))
    moves = coordinates(tap, kernel)
    found = [
        (start + move).clamp(0, n - 1) for start, move, n in zip(starts, moves, size, strict=True)
    ]
    covered = ~over.all(1)
    target = flat([image, channel, *found], x.shape)
    return [Link(0, every(points)[covered], target[covered])]


_POINT = ops.Window((1,), (1,), (0,), (1,))


class Filters(NamedTuple):
    """A layer of filters and the points in one of its tops.

    Attributes:
        x: the bottom as (images, channels, axes...), with at least one spatial axis.
        weight: as Caffe stores it, with one axis for all taps.
        window: of the filters.
        image, out, place: the points' coordinates; place has one tensor per spatial axis.
    """

    x: Tensor
    weight: Tensor
    window: ops.Window
    image: Tensor
    out: Tensor
    place: list[Tensor]


def read_filters(passage: Passage, op: ops.Filtered, points: Tensor) -> Filters:
    """A layer's filters and points, for any number of axes."""
    x, top = passage.bottoms[passage.top], passage.tops[passage.top]
    axis, window = op.channel_axis(tuple(x.shape)), op.window(tuple(x.shape))
    images, spatial = math.prod(x.shape[:axis]), tuple(x.shape[axis + 1 :])
    sizes = tuple(top.shape[axis + 1 :]) or (1,)
    image, out, *place = coordinates(points, (images, op.num_output, *sizes))
    weight = passage.module.param("weight").detach()
    return Filters(
        x.reshape(images, x.shape[axis], *(spatial or (1,))),
        weight.reshape(*weight.shape[:2], -1),
        window if window.kernel else _POINT,
        image, out, place,
    )  # fmt: skip


def shifts(window: ops.Window, shift: Shift) -> bool:
    """Whether a point goes to the largest product, not to the window's centre."""
    dilated = max(window.dilation) > 1
    return shift == "full_shift" or (shift == "partial_shift" and not dilated)


@register_rule("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(passage: Passage, points: Tensor) -> list[Link]:
    """The k channels of the window that add most to a point, and one place in each.

    Per channel the products of filter and input are summed over the window (zero padded, dilated,
    only the point's group; the bias is left out) and the k largest sums are followed. The place is
    that of the channel's largest product, or the window's centre where the shift type says so. A
    place in the padding is moved to the blob's edge.

    Source: Seg-Unravel, whose groups are wrong with dilation.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.Filtered)
    x, weight, window, image, out, place = read_filters(passage, op, points)
    group = out // (op.num_output // op.group)
    starts = [
        at * stride - pad for at, stride, pad in zip(place, window.stride, window.pad, strict=True)
    ]
    windows = _Windows.of(x, window, op.group, starts)
    # weight is (out, channels / group, taps)
    chosen = windows.choose(image * op.group + group, weight.transpose(1, 2), out, passage.k)
    tap = chosen.tap
    if not shifts(window, passage.shift):
        tap = torch.full_like(tap, _centre(window))
    axes = [image[:, None], group[:, None] * weight.shape[1] + chosen.channel]
    for i, step in enumerate(coordinates(tap, window.kernel)):
        at = starts[i][:, None] + step * window.dilation[i]
        axes.append(at.clamp(0, x.shape[2 + i] - 1))
    target = flat(axes, x.shape)
    source = every(points)[:, None].expand_as(target)
    return [Link(passage.top, source.flatten(), target.flatten())]


@dataclass(frozen=True)
class _Windows:
    """The windows of P points in a blob: for each, where its taps are."""

    last: Tensor  # (images * groups, places, channels / group): whole rows are gathered
    rows: Tensor  # (P, taps) places
    outside: Tensor  # (P, taps) bool: in the padding

    @classmethod
    def of(cls, x: Tensor, window: ops.Window, groups: int, starts: list[Tensor]) -> _Windows:
        steps = [
            torch.arange(kernel, device=x.device) * dilation
            for kernel, dilation in zip(window.kernel, window.dilation, strict=True)
        ]
        rows, outside = reach(starts, steps, x.shape[2:])
        last = x.reshape(len(x) * groups, x.shape[1] // groups, -1).transpose(1, 2)
        # transposing the whole blob is faster only where most of it is used
        return cls(last if rows.numel() < last.shape[1] else last.contiguous(), rows, outside)

    def choose(self, image: Tensor, weight: Tensor, out: Tensor, k: int) -> Chosen:
        """Follows the filters ``out`` of weight (out, taps, channels)."""
        weight = weight if len(out) < len(weight) else weight.contiguous()
        parts = []
        for part in batches(len(out), weight[0].numel(), out.device):
            values = self.last[image[part, None], self.rows[part]]
            values[self.outside[part]] = 0
            parts.append(strongest(values.mul_(weight[out[part]]), k))
        return Chosen.join(parts)


def _centre(window: ops.Window) -> int:
    tap = 0
    for kernel in window.kernel:
        tap = tap * kernel + kernel // 2
    return tap


_Taps = tuple[Tensor, Tensor, Tensor]  # places in the bottom, filter taps, validity: each (P, T)


@register_rule("Deconvolution")
def deconvolution(passage: Passage, points: Tensor) -> list[Link]:
    """The k channels of the bottom that add most to a point, and one place in each.

    The counterpart of Convolution's rule: of all values of the bottom whose filter reaches the
    point, the products with the filter are summed per channel. The place is that of the channel's
    largest product or, where the shift type says so, the one whose filter has its centre nearest to
    the point. A point that no filter reaches is dropped.

    Source: ours; Seg-Unravel has no rule for Deconvolution.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.Filtered)
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


def _reaching(place: list[Tensor], window: ops.Window, spatial: tuple[int, ...]) -> _Taps:
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


def _central(taps: Tensor, valid: Tensor, window: ops.Window) -> Tensor:
    """The reaching value whose tap is nearest to the filter's centre; the last among equals."""
    distance = torch.zeros_like(taps)
    steps = coordinates(taps, window.kernel)
    for step, kernel, dilation in zip(steps, window.kernel, window.dilation, strict=True):
        distance = distance + (dilation * (2 * step - kernel + 1)) ** 2
    return last_argmax(-distance.masked_fill(~valid, torch.iinfo(torch.int64).max))


@register_rule("InnerProduct")
def inner_product(passage: Passage, points: Tensor) -> list[Link]:
    """As a Convolution whose filters cover the whole bottom.

    The first of the axes that form the vector holds the channels, the others are the window.

    Source: ours; a fully connected layer turned into a convolution gives the same points.
    """
    op = passage.module.spec.op
    assert isinstance(op, ops.InnerProduct)
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
