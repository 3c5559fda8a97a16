"""Searching the CRF's best weights and widths on a validation subset.

Source: DeepLab's run_densecrf_grid_search.sh: the settings that give the highest mean IoU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_port.crf.dense_crf import DenseCRF
from caffe_port.crf.params import CRFParameters, from_mapping
from caffe_port.crf.programs import Item, Kind, read_picture, unary_of
from caffe_port.errors import DataError, UsageError

IGNORED = 255
AXES = ("pos_w", "pos_xy_std", "bi_w", "bi_xy_std", "bi_rgb_std")
Counts = NDArray[np.int64]
# blue, green, red: what DeepLab's nets subtract before their DenseCRF layer sees the colours
LAYER_MEAN = (104.008, 116.669, 122.675)


@dataclass(frozen=True)
class Grid:
    """Values to try of each setting; every combination is tried."""

    pos_w: tuple[float, ...] = (3,)
    pos_xy_std: tuple[float, ...] = (3,)
    bi_w: tuple[float, ...] = (3, 4, 5)
    bi_xy_std: tuple[float, ...] = (30, 50, 70, 90)
    bi_rgb_std: tuple[float, ...] = (3, 5, 7, 9)
    iterations: int = 10

    def settings(self) -> list[CRFParameters]:
        """All combinations, the last axis the quickest."""
        axes = [getattr(self, name) for name in AXES]
        return [
            from_mapping({**dict(zip(AXES, chosen, strict=True)), "iterations": self.iterations})
            for chosen in itertools.product(*axes)
        ]


def values(text: str) -> tuple[float, ...]:
    """``3,4,5`` or ``first:last:step``, the last included.

    Raises:
        UsageError: neither, no value, or more than 1000.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, step = (float(part) for part in text.split(":"))
        count = int((last - first) / step * (1 + 1e-9)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"'{text}': expected values 3,4,5 or first:last:step") from None
    if step <= 0:
        raise UsageError(f"'{text}' has the step {step:g}; expected one above 0")
    if not 1 <= count <= 1000:
        raise UsageError(f"'{text}' stands for {max(count, 0)} values; expected 1 to 1000")
    return tuple(first + i * step for i in range(count))


def search(
    items: Sequence[Item], labels: Path, kind: Kind, grid: Grid, *, layer: bool, jobs: int
) -> Iterator[Counts]:
    """Confusion counts of every setting, image after image.

    Args:
        items: images, their features and pictures.
        labels: folder of the true label maps NAME.png; 255 is ignored.
        kind: of the features.
        grid: what to try.
        layer: give the kernels blue, green, red minus DeepLab's mean, as its Caffe layer, instead
            of red, green, blue.
        jobs: images refined at the same time.
    Yields:
        (settings, classes, classes) of one image: true labels by row, found ones by column.
    Raises:
        CaffePortError: a file is missing, broken or does not fit.
    """
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_count, item, labels, kind, grid, layer) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _count(item: Item, labels: Path, kind: Kind, grid: Grid, layer: bool) -> Counts:
    from caffe_port.data.pictures import read_labels

    image: NDArray[np.uint8] | NDArray[np.float32] = read_picture(item)
    unary = unary_of(item.features, kind, *image.shape[:2])
    path = labels / f"{item.name}.png"
    truth = read_labels(path)
    if truth.shape != image.shape[:2]:
        raise DataError(f"{path}: shape {truth.shape}; its picture has {image.shape[:2]}")
    known = truth != IGNORED
    if known.any() and truth[known].max() >= len(unary):
        raise DataError(f"{path}: label {truth[known].max()}; features have {len(unary)} classes")
    if layer:
        image = image[:, :, ::-1].astype(np.float32) - np.array(LAYER_MEAN, np.float32)
    rows = len(unary) * truth[known].astype(np.int64)
    shape = (-1, len(unary), len(unary))
    try:
        counts = [
            np.bincount(rows + found[known], minlength=len(unary) ** 2)
            for found in _label_maps(unary, image, grid)
        ]
    except UsageError as error:
        raise DataError(f"{item.features}: {error}") from error
    return np.stack(counts).reshape(shape)


def _label_maps(
    unary: NDArray[np.float32], image: NDArray[np.uint8] | NDArray[np.float32], grid: Grid
) -> Iterator[NDArray[np.int32]]:
    """A label map for each of the grid's settings, in their order; one lattice for each width."""
    crfs: dict[tuple[float, ...], DenseCRF] = {}
    for p in grid.settings():
        widths = (*p.pos_xy_std, *p.bi_xy_std, *p.bi_rgb_std)
        if widths not in crfs:
            crf = DenseCRF(unary.shape[1], unary.shape[2], len(unary))
            crf.add_gaussian(p.pos_xy_std[0], weight=1)
            crfs[widths] = crf.add_bilateral(p.bi_xy_std[0], p.bi_rgb_std[0], image, weight=1)
        yield crfs[widths].with_weights(p.pos_w[0], p.bi_w[0]).map(unary, p.iterations)


def mean_iou(counts: Counts) -> NDArray[np.float64]:
    """Mean over the classes that occur of intersection over union, of (..., C, C) counts."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - hit
    iou = hit / np.maximum(union, 1)
    there = union > 0
    result: NDArray[np.float64] = iou.sum(-1) / np.maximum(there.sum(-1), 1)
    return result
