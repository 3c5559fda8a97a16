"""Where a label's points are: inside the object, on other classes, or in the padding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe_port.unravel.drawing import Bytes, Floats
from caffe_port.unravel.points import Points


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
        hit: whether the heat map's peak lies in the region; None where it lies on ignored pixels.
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
