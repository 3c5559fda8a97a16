"""Measures of traced points: where they are, and what deleting them does to the score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_port.net import Net
from caffe_port.unravel.drawing import Bytes, Floats, Size, heat_map, spread
from caffe_port.unravel.points import Points
from caffe_port.unravel.trace import Traces


@dataclass(frozen=True)
class Evidence:
    """The points of one label in one image.

    Attributes:
        label: the label.
        region: number of the image's pixels with this label.
        pixels: number of the image's pixels, without ignored ones.
        on: class -> points on it; without those on ignored pixels and in the padding.
        ignored, padding: points on ignored pixels and in the padding.
        distance: median distance, in pixels, of the points outside to the region; NaN if there is
            none.
        hit: whether the heat map's peak is in the region; None if it is on ignored pixels.
    """

    label: int
    region: int
    pixels: int
    on: Counter[int]
    ignored: int
    padding: int
    distance: float
    hit: bool | None

    @property
    def inside(self) -> float:
        """Share of the points in the label's own region; the padding is outside."""
        total = sum(self.on.values()) + self.padding
        return self.on[self.label] / total if total else math.nan

    @property
    def chance(self) -> float:
        """The region's share of the image: the inside share of points scattered at random."""
        return self.region / self.pixels if self.pixels else math.nan


def evidence(
    points: Points, heat: Floats, label: int, regions: Bytes, *, ignore_label: int = 255
) -> Evidence:
    """Compares the input points of one label with the regions of the image.

    Args:
        points: (P, 3) channel, y, x in the input; each counts once.
        heat: (H, W) its heat map over the input.
        label: the label.
        regions: (h, w) uint8 classes of the image, which is the input's upper left part: the
            truth, or the predicted label map.
        ignore_label: pixels of ``regions`` that do not count.
    """
    height, width = regions.shape
    within = points[(points[:, 1] < height) & (points[:, 2] < width)]
    classes = regions[within[:, 1], within[:, 2]]
    own = regions == label
    found = Counter(int(c) for c in classes)
    ignored = found.pop(ignore_label, 0)
    peak = np.unravel_index(int(heat[:height, :width].argmax()), regions.shape)
    at_peak = int(regions[peak])
    outside = within[(classes != label) & (classes != ignore_label)]
    return Evidence(
        label, int(own.sum()), int((regions != ignore_label).sum()), found, ignored,
        len(points) - len(within), _distance(outside, own),
        None if at_peak == ignore_label else at_peak == label,
    )  # fmt: skip


def _distance(outside: Points, own: npt.NDArray[np.bool_]) -> float:
    if not len(outside) or not own.any():
        return math.nan
    from scipy.ndimage import distance_transform_edt

    return float(np.median(distance_transform_edt(~own)[outside[:, 1], outside[:, 2]]))


@dataclass(frozen=True)
class Summary:
    """The evidence of several labels; shares are means over the labels of the images.

    Attributes:
        cases: number of labels of images.
        inside, chance: shares of points and of pixels in the own region.
        hits, hit_chance: the pointing game: share of peaks in the region, and of pixels.
        distance: median over the cases of the median distance of points outside.
        context: class -> mean share of the points on it, without the own class.
        padding: mean share of points in the padding.
    """

    cases: int
    inside: float
    chance: float
    hits: float
    hit_chance: float
    distance: float
    context: dict[int, float]
    padding: float


def summarize(cases: Iterable[Evidence]) -> Summary:
    """The means over cases that have points, and whose label is in the regions."""
    used = [case for case in cases if case.region and not math.isnan(case.inside)]
    counted = [case for case in used if case.hit is not None]
    context: dict[int, float] = {}
    padding = 0.0
    for case in used:
        total = sum(case.on.values()) + case.padding
        padding += case.padding / total / len(used)
        for region, number in case.on.items():
            if region != case.label:
                context[region] = context.get(region, 0.0) + number / total / len(used)
    distances = [case.distance for case in used if not math.isnan(case.distance)]
    return Summary(
        len(used), _mean([c.inside for c in used]), _mean([c.chance for c in used]),
        _mean([float(bool(c.hit)) for c in counted]), _mean([c.chance for c in counted]),
        float(np.median(distances)) if distances else math.nan, context, padding,
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


# Deletion and insertion: a label's score while pixels are removed or added, hottest first.
#
# The score is the mean of the label's softmax probability over the places that have the label in
# the whole image. A removed pixel has the mean colour, 0 in the network's input. Four maps order
# the pixels, all smoothed in the same way: the traced points' density, the gradient of the label's
# scores, noise, and the label's own region.
#
# Source: Petsiuk, Das and Saenko, RISE (BMVC 2018), for deletion and insertion.

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
ORDERS = ("traced points", "gradient", "own region", "random")
_BATCH = 4  # images run together


@dataclass(frozen=True)
class Curves:
    """The score of one label for one order of the pixels.

    Attributes:
        deletion, insertion: the score at each of FRACTIONS.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def areas(self) -> tuple[float, float]:
        """Areas under both curves; a good order has a small one and a large one."""
        return area(self.deletion), area(self.insertion)


def area(curve: Sequence[float]) -> float:
    """Area under a curve over FRACTIONS."""
    steps = zip(pairwise(FRACTIONS), pairwise(curve), strict=True)
    return sum((right - left) * (a + b) / 2 for (left, right), (a, b) in steps)


def curves(
    net: Net, data: Tensor, traces: Traces, label: int, size: Size, *, seed: int = 0
) -> dict[str, Curves]:
    """Deletion and insertion for all orders.

    Args:
        net: the traced net; its first source takes the image.
        data: (1, 3, H, W) its input, 0 where padded.
        traces: from ``trace``, of this input.
        label: whose score is measured.
        size: height and width of the image in the input's upper left corner.
        seed: of the random order.
    Returns:
        Order -> curves.
    """
    maps = _maps(net, data, traces, label, size, seed)
    region = torch.from_numpy(traces.label_map == label)
    return {
        name: Curves(*(
            tuple(_scores(net, _images(data, order, keep), traces.top, label, region))
            for keep in (False, True)
        ))
        for name, order in ((name, _order(map_, size, seed)) for name, map_ in maps.items())
    }  # fmt: skip


def _maps(
    net: Net, data: Tensor, traces: Traces, label: int, size: Size, seed: int
) -> dict[str, Floats]:
    source = net.spec.sources[0]
    canvas = (data.shape[2], data.shape[3])
    noise = np.random.default_rng(seed).random(canvas)
    x = data.clone().requires_grad_()
    region = torch.from_numpy(traces.label_map == label).to(data.device)
    score = net({source: x}, keep=[traces.top])[traces.top][0, label][region].sum()
    (gradient,) = torch.autograd.grad(score, x)
    strength = gradient[0].abs().amax(0).cpu().numpy().astype(np.float64)
    return {
        "traced points": heat_map(traces.arrived(label, source), canvas),
        "gradient": _smoothed(strength, canvas),
        "own region": _smoothed(_enlarged(traces.label_map == label, canvas), canvas),
        "random": _smoothed(noise, canvas),
    }


def _smoothed(values: Floats, canvas: Size) -> Floats:
    from scipy.ndimage import gaussian_filter

    smooth: Floats = gaussian_filter(values, spread(canvas))
    return smooth


def _enlarged(mask: npt.NDArray[np.bool_], canvas: Size) -> Floats:
    """A mask on the canvas's grid; where its own is coarser, the nearest place."""
    rows, columns = (
        np.arange(large) * small // large for large, small in zip(canvas, mask.shape, strict=True)
    )
    large: Floats = mask[rows][:, columns].astype(np.float64)
    return large


def _order(map_: Floats, size: Size, seed: int) -> npt.NDArray[np.int64]:
    """Rank of each of the image's pixels, hottest 0; equal ones in random order."""
    values = map_[: size[0], : size[1]].ravel()
    shuffled = np.random.default_rng(seed + 1).random(len(values))
    rank = np.empty(len(values), np.int64)
    rank[np.lexsort((shuffled, -values))] = np.arange(len(values))
    return rank.reshape(size)


def _images(data: Tensor, rank: npt.NDArray[np.int64], keep: bool) -> list[Tensor]:
    """The input with the hottest pixels only, or without them, at each of FRACTIONS."""
    result = []
    for fraction in FRACTIONS:
        hot = rank < round(fraction * rank.size)
        x = data.clone()
        x[0, :, : rank.shape[0], : rank.shape[1]] *= torch.from_numpy(hot == keep).to(x)
        result.append(x)
    return result


def _scores(
    net: Net, images: Sequence[Tensor], top: str, label: int, region: Tensor
) -> list[float]:
    found: list[float] = []
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            x = torch.cat(list(images[start : start + _BATCH]))
            share = net({net.spec.sources[0]: x}, keep=[top])[top].softmax(1)[:, label]
            found += share[:, region.to(share.device)].mean(1).tolist()
    return found


def mean_curves(several: Sequence[Mapping[str, Curves]]) -> dict[str, Curves]:
    """The mean of each order's curves."""
    return {
        name: Curves(
            tuple(np.mean([each[name].deletion for each in several], axis=0).tolist()),
            tuple(np.mean([each[name].insertion for each in several], axis=0).tolist()),
        )
        for name in (several[0] if several else ())
    }
