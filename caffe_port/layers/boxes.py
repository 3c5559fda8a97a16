"""Boxes of detectors: decoding, overlap, suppression, and the order of std::sort.

A box is (xmin, ymin, xmax, ymax) in float32. What is decided by comparisons (overlaps, thresholds,
orders) is computed in float32 in Caffe's order of operations, so that the same boxes are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
FARTHEST = 2.0**24  # up to here float32 has every whole number
SMALL_RANGE = 16  # std::sort leaves ranges of this length to an insertion sort


def decode(loc: Tensor, priors: Tensor, variance: Tensor, code: str) -> Tensor:
    """The boxes that predicted locations stand for.

    Args:
        loc: (..., 4) predictions.
        priors: (..., 4) prior boxes.
        variance: (..., 4), multiplied into ``loc``; ones where the target holds the variance.
        code: 'CORNER', 'CENTER_SIZE' or 'CORNER_SIZE'.
    Returns:
        (..., 4), of the dtype of ``loc``.
    Raises:
        ValueError: a prior box without area, whose size is a factor.
    Source: weiliu89/caffe bbox_util.cpp, DecodeBBox.
    """
    if code == "CORNER":
        return priors + variance * loc
    low, high = priors[..., :2], priors[..., 2:]
    size = high - low
    if not bool((size > 0).all()):
        raise ValueError(f"a prior box has no area, which code_type {code} divides by")
    if code == "CORNER_SIZE":
        return priors + variance * loc * torch.cat([size, size], -1)
    centre = variance[..., :2] * loc[..., :2] * size + (low + high) / 2
    # through double: torch's own float32 exp is a last digit off that of the C library
    grown = (variance[..., 2:] * loc[..., 2:]).double().exp().to(loc.dtype)
    half = grown * size / 2
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Tensor, priors: Tensor, variance: Tensor, code: str) -> Tensor:
    """The locations that stand for boxes: the inverse of ``decode``, with its arguments.

    Raises:
        ValueError: a prior or a box without area, where sizes divide.
    Source: weiliu89/caffe bbox_util.cpp, EncodeBBox.
    """
    if code == "CORNER":
        return (boxes - priors) / variance
    size = priors[..., 2:] - priors[..., :2]
    if not bool((size > 0).all()):
        raise ValueError(f"a matched prior box has no area, which code_type {code} divides by")
    if code == "CORNER_SIZE":
        return (boxes - priors) / torch.cat([size, size], -1) / variance
    extent = boxes[..., 2:] - boxes[..., :2]
    if not bool((extent > 0).all()):
        raise ValueError("a true box has no area, whose logarithm code_type CENTER_SIZE needs")
    centre = (priors[..., :2] + priors[..., 2:]) / 2
    shift = ((boxes[..., :2] + boxes[..., 2:]) / 2 - centre) / size
    return torch.cat([shift, (extent / size).log()], -1) / variance


def areas(boxes: Array, pixels: bool = False) -> Array:
    """Areas of boxes (..., 4); 0 where an end is before the start.

    Args:
        boxes: parts of the image, or pixels, both ends of which belong to the box.
        pixels: which of the two.
    Source: weiliu89/caffe bbox_util.cpp, BBoxSize.
    """
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    one = np.float32(1 if pixels else 0)
    size = (width + one) * (height + one)
    return np.where((width < 0) | (height < 0), np.float32(0), size)


def overlaps(box: Array, boxes: Array, pixels: bool = False, gaps: bool = False) -> Array:
    """Intersection over union of one box, or of (n, 1, 4), with each of ``boxes``.

    Args:
        box, boxes: their ends.
        pixels: as for ``areas``.
        gaps: boxes of pixels that are less than one pixel apart share the rest of it.
    Source: weiliu89/caffe bbox_util.cpp, JaccardOverlap; for gaps rbgirshick/py-faster-rcnn
        lib/nms/nms_kernel.cu and lib/utils/bbox.pyx.
    """
    low = np.maximum(box[..., :2], boxes[..., :2])
    high = np.minimum(box[..., 2:], boxes[..., 2:])
    apart = (boxes[..., :2] > box[..., 2:]) | (boxes[..., 2:] < box[..., :2])
    none = np.False_ if gaps else apart.any(-1)
    size = high - low + np.float32(1 if pixels else 0)
    width, height = size[..., 0], size[..., 1]
    shared = width * height
    with np.errstate(invalid="ignore", divide="ignore"):
        part = shared / (areas(box, pixels) + areas(boxes, pixels) - shared)
    return np.where(~none & (width > 0) & (height > 0), part, np.float32(0))


def suppress(
    boxes: Array,
    order: Array,
    threshold: float,
    eta: float = 1,
    most: int | None = None,
    overlap: Callable[[Array, Array], Array] = overlaps,
) -> list[int]:
    """Non-maximum suppression: keeps a box that overlaps no kept one by more than the threshold.

    Args:
        boxes: (n, 4).
        order: indices of boxes, the best first.
        threshold: of the overlap.
        eta: while the threshold is above 0.5, each kept box multiplies it by this.
        most: how many boxes are kept at most.
        overlap: of one box with several; by default intersection over union of SSD's boxes.
    Returns:
        The indices of the kept boxes, the best first.
    Source: weiliu89/caffe bbox_util.cpp, ApplyNMSFast.
    """
    chosen, limit, factor = boxes[order], np.float32(threshold), np.float32(eta)
    worst = np.full(len(order), -np.inf, np.float32)  # the first is kept by any threshold
    kept: list[int] = []
    for i, index in enumerate(order):
        if len(kept) == most:
            break
        if not worst[i] <= limit:
            continue
        kept.append(int(index))
        found = overlap(chosen[i], chosen[i + 1 :])
        np.maximum(worst[i + 1 :], found, out=worst[i + 1 :])
        if eta < 1 and limit > 0.5:
            limit *= factor
    return kept


def descending(scores: Array) -> Array:
    """The order in which GCC's std::sort puts scores, the highest first.

    It is not stable: where scores are equal, their order follows from its partitions, which are
    carried out here. Its final insertion sort is stable. Where it would change to a heap sort
    (after 2 log2 n bad partitions), equal scores keep their order here.

    Source: libstdc++ bits/stl_algo.h.
    """
    values = [float(score) for score in scores]
    order = list(range(len(values)))
    if len(values) > SMALL_RANGE and len(np.unique(scores)) < len(values):
        ranges = [(0, len(values), 2 * (len(values).bit_length() - 1))]
        while ranges:
            first, last, depth = ranges.pop()
            while last - first > SMALL_RANGE and depth > 0:
                depth -= 1
                cut = _partition(order, values, first, last)
                ranges.append((cut, last, depth))
                last = cut
    return np.array(sorted(order, key=lambda index: -values[index]), np.int64)


def _partition(order: list[int], values: list[float], first: int, last: int) -> int:
    """One step of std::sort: moves a median of three to the front and parts the rest by it."""
    middle = first + (last - first) // 2
    a, b, c = first + 1, middle, last - 1
    x, y, z = (values[order[i]] for i in (a, b, c))
    # the choice among equal values is std::sort's
    falling, rising = (b if y > z else c if x > z else a), (a if x > z else c if y > z else b)
    median = falling if x > y else rising
    order[first], order[median] = order[median], order[first]
    pivot = values[order[first]]
    low, high = first + 1, last
    while True:
        while values[order[low]] > pivot:
            low += 1
        high -= 1
        while pivot > values[order[high]]:
            high -= 1
        if low >= high:
            return low
        order[low], order[high] = order[high], order[low]
        low += 1
