"""Scores along the boundaries of objects: trimap IoU, boundary IoU and boundary F."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes, read_labels
from caffe_port.datasets.rules import IGNORED, Truth
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.figures import number
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, Floats, Labels
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart

WIDEST = 40  # pixels: where DeepLab's curve ends
WIDTH = 0.02  # of the image's diagonal: the band of boundary IoU, as published
TOLERANCE = 0.0075  # of the image's diagonal: the distance that boundary F allows

Distances = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Measure = TypeVar("Measure")


def distances(void: npt.NDArray[np.bool_]) -> Distances:
    """Chebyshev distance of each pixel to the nearest void one: 0 in the void itself.

    A pixel is in the void dilated by a square of side 2 d + 1 where its distance is at most d.

    Args:
        void: (H, W), true along the boundaries.
    Returns:
        (H, W) int32; the largest int32 everywhere if nothing is void.
    """
    from scipy.ndimage import distance_transform_cdt

    if not void.any():
        return np.full(void.shape, np.iinfo(np.int32).max, np.int32)
    found: Distances = distance_transform_cdt(~void, metric="chessboard").astype(np.int32)
    return found


class Trimap:
    """A confusion matrix over all images for each band of 1 to ``widest`` pixels.

    The band of width d is the truth's void boundary dilated by a square of side 2 d + 1, without
    the void.

    Args:
        classes: number of classes C, 1 to 255.
        ignore_label: truth pixels of this label do not count.
        widest: the last band's width in pixels.
    Raises:
        UsageError: an argument out of range.
    Source: the trimap evaluation among DeepLab's scripts; Krähenbühl and Koltun, NIPS 2011.
    """

    def __init__(self, classes: int, *, ignore_label: int = 255, widest: int = WIDEST) -> None:
        if widest < 1:
            raise UsageError(f"a band has at least 1 pixel, got {widest}")
        self.classes, self.ignore_label, self.widest = classes, ignore_label, widest
        # pixels at exactly distance d; a band is the sum up to its width
        self._rings = [ConfusionMatrix(classes, ignore_label=ignore_label) for _ in range(widest)]

    def add(self, truth: Labels, prediction: Labels, distance: Distances) -> None:
        """Counts one image.

        Args:
            truth: (H, W) classes or ``ignore_label``.
            prediction: (H, W) classes.
            distance: (H, W) of the truth's void, from ``distances``.
        Raises:
            DataError: shapes differ, or a label is outside the classes.
        """
        if not truth.shape == prediction.shape == distance.shape:
            raise DataError(
                f"truth is {truth.shape}, the prediction {prediction.shape}, "
                f"distances {distance.shape}"
            )
        near = (distance > 0) & (distance <= self.widest)
        true, predicted, at = truth[near], prediction[near], distance[near]
        order = np.argsort(at, kind="stable")
        ends = np.searchsorted(at[order], np.arange(1, self.widest + 2))
        for ring, begin, end in zip(self._rings, ends, ends[1:], strict=False):
            ring.add(true[order[begin:end]], predicted[order[begin:end]])

    def matrices(self) -> list[ConfusionMatrix]:
        """The matrix of each band, the narrowest (1 pixel) first."""
        sums: Counts = np.cumsum([ring.counts for ring in self._rings], axis=0)
        return [
            ConfusionMatrix(self.classes, ignore_label=self.ignore_label, counts=counts)
            for counts in sums
        ]

    def mean_iou(self) -> Floats:
        """(widest,) mean IoU within each band, NaN where no pixel counts."""
        return np.array([matrix.mean_iou() for matrix in self.matrices()])


class Boundary:
    """Both measures over all images.

    Boundary IoU: of each class the band of its region within d pixels (in x and in y) of the
    region's edge is compared; intersections and unions are summed over the images. d is 2 % of
    the image's diagonal, rounded, at least 1.

    Boundary F: for each image and class, precision is the share of the predicted edge within a
    distance of the true edge, recall the reverse, F their harmonic mean; means over the images in
    which the class occurs, then over the classes. The distance is 0.75 % of the diagonal.

    Pixels that do not count belong to no region, in truth and prediction; beyond the image there
    is none either.

    Args:
        classes: number of classes.
        width, tolerance: shares of the diagonal.
    Raises:
        UsageError: an argument out of range.
    Source: Cheng and others, Boundary IoU, CVPR 2021; Csurka and others, What is a good evaluation
    measure for semantic segmentation?, BMVC 2013.
    """

    def __init__(self, classes: int, *, width: float = WIDTH, tolerance: float = TOLERANCE) -> None:
        if not 1 <= classes <= 255 or not 0 < width < 1 or not 0 < tolerance < 1:
            raise UsageError(
                "expected 1 to 255 classes and shares between 0 and 1, got "
                f"{classes}, {width} and {tolerance}"
            )
        self.classes, self.width, self.tolerance = classes, width, tolerance
        self._shared, self._union = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self._f, self._images = np.zeros(classes), np.zeros(classes, np.int64)

    def add(self, truth: Bytes, prediction: Bytes) -> None:
        """Counts one image.

        Args:
            truth: (H, W) classes, or ``IGNORED``.
            prediction: (H, W) classes.
        Raises:
            DataError: the shapes differ.
        """
        if truth.shape != prediction.shape:
            raise DataError(f"truth is {truth.shape}, the prediction {prediction.shape}")
        diagonal = math.hypot(*truth.shape)
        band, allowed = max(1, round(self.width * diagonal)), self.tolerance * diagonal
        counted = truth != IGNORED
        for c in np.union1d(truth[counted], prediction[counted]).tolist():
            true, predicted = counted & (truth == c), counted & (prediction == c)
            bands = [inner_band(mask, band) for mask in (true, predicted)]
            self._shared[c] += np.count_nonzero(bands[0] & bands[1])
            self._union[c] += np.count_nonzero(bands[0] | bands[1])
            self._f[c] += f_score(true, predicted, allowed)
            self._images[c] += 1

    def merge(self, other: Boundary) -> None:
        """Adds the counts of further images, in place.

        Raises:
            UsageError: the classes or distances differ.
        """
        mine, theirs = ((b.classes, b.width, b.tolerance) for b in (self, other))
        if mine != theirs:
            raise UsageError(f"boundary scores of classes, width and tolerance {mine} and {theirs}")
        self._shared += other._shared
        self._union += other._union
        self._f += other._f
        self._images += other._images

    def iou(self) -> Floats:
        """(C,) boundary IoU, NaN for classes that do not occur."""
        return _ratio(self._shared, self._union)

    def f(self) -> Floats:
        """(C,) boundary F, NaN for classes that do not occur."""
        return _ratio(self._f, self._images)

    def mean_iou(self) -> float:
        """Mean of ``iou`` over the classes that occur."""
        return _mean(self.iou())

    def mean_f(self) -> float:
        """Mean of ``f`` over the classes that occur."""
        return _mean(self.f())


def inner_band(mask: Mask, width: int) -> Mask:
    """The pixels of a mask within so many (in x and in y) of a pixel outside it or the image.

    Args:
        mask: (H, W).
        width: at least 1.
    """
    from scipy.ndimage import distance_transform_cdt

    distance = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    band: Mask = mask & (distance <= width)
    return band


def edge(mask: Mask) -> Mask:
    """The pixels of a mask next to (in x or in y) a pixel outside of it or of the image."""
    wide = np.pad(mask, 1)
    inside = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    found: Mask = mask & ~inside
    return found


def f_score(true: Mask, predicted: Mask, allowed: float) -> float:
    """The boundary F of two masks; 0 where one of them is empty.

    Args:
        true, predicted: (H, W).
        allowed: the Euclidean distance in pixels up to which edges agree.
    """
    if not true.any() or not predicted.any():
        return 0.0
    edges = edge(true), edge(predicted)
    recall, precision = (_near(one, other, allowed) for one, other in (edges, edges[::-1]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(edge: Mask, other: Mask, allowed: float) -> float:
    """The share of an edge that is within a distance of the other."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(~other)
    return float((distance[edge] <= allowed).mean())


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


@dataclass(frozen=True)
class Stages(Generic[Measure]):
    """A measure of an evaluation's label maps; ``after`` is None without a refinement."""

    before: Measure
    after: Measure | None = None

    def named(self) -> dict[str, Measure]:
        """By what they are of."""
        if self.after is None:
            return {"network": self.before}
        return {"before CRF": self.before, "after CRF": self.after}


def trimap_curves(result: Result) -> Stages[Trimap]:
    """The trimaps of an evaluation's label maps, which must still be on disk.

    Labels beyond the classes, where they are ignored, do not count, but are not a boundary.

    Args:
        result: of an evaluation with truth.
    Raises:
        UsageError: no image has a truth.
        DataError: a label map is gone or damaged.
    """
    both = [Trimap(result.classes) for _ in range(1 + (result.after is not None))]
    for truth, maps in _label_maps(result, "a trimap needs"):
        distance = distances(truth.void)
        for trimap, labels in zip(both, maps, strict=True):
            trimap.add(truth.labels, labels, distance)
    return Stages(*both)


def boundaries(result: Result) -> Stages[Boundary]:
    """The boundary measures of an evaluation's label maps, which must still be on disk.

    Raises:
        UsageError: no image has a truth.
        DataError: a label map is gone or damaged.
    """
    both = [Boundary(result.classes) for _ in range(1 + (result.after is not None))]
    for truth, maps in _label_maps(result, "boundary scores need"):
        for boundary, labels in zip(both, maps, strict=True):
            boundary.add(truth.labels, labels)
    return Stages(*both)


def _label_maps(result: Result, who_needs: str) -> Iterator[tuple[Truth, list[Bytes]]]:
    """The truth of each scored image, and its stored label maps: before, and after if refined."""
    if result.before is None:
        raise UsageError(f"{who_needs} label maps to compare with, and the list has none")
    stages = (result.store.before, result.store.after)[: 1 + (result.after is not None)]
    for item, outcome in zip(result.items, result.outcomes, strict=True):
        if item.label is not None and not outcome.error:
            truth = result.rules.read(item.label, result.classes)
            yield truth, [read_labels(stage(item.id), result.store.colours) for stage in stages]


def trimap_json(curves: Stages[Trimap]) -> dict[str, object]:
    """Band widths in pixels, and mean IoU and counted pixels within each, by stage."""
    entries: dict[str, object] = {"pixels_wide": list(range(1, curves.before.widest + 1))}
    for stage, trimap in (("before", curves.before), ("after", curves.after)):
        entries[stage] = trimap and {
            "mean_iou": [number(value) for value in trimap.mean_iou().tolist()],
            "pixels": [matrix.pixels for matrix in trimap.matrices()],
        }
    return entries


def trimap_section(curves: Stages[Trimap]) -> html.Html:
    """A plot and a table of mean IoU against the band's width."""
    lines = {name: trimap.mean_iou() for name, trimap in curves.named().items()}
    rows = [
        [str(d), *(_percent(line[d - 1]) for line in lines.values())]
        for d in range(1, curves.before.widest + 1)
    ]
    headers = ["band, pixels", *(f"mean IoU {name}, %" for name in lines)]
    words = (
        "Mean IoU of the pixels within this distance (in x and in y) of the truth's void boundary, "
        "without the void itself. One confusion matrix over all images for each width."
    )
    return html.section(
        "IoU along boundaries (trimap)",
        _plot(lines),
        html.paragraph(words, note=True),
        html.details("Figures", html.table(headers, rows)),
    )


def boundaries_json(**stages: Boundary | None) -> dict[str, object]:
    """The entry of report.json: the shares of the diagonal, then the figures of each stage.

    Raises:
        UsageError: there is no stage.
    """
    known = [boundary for boundary in stages.values() if boundary is not None]
    if not known:
        raise UsageError("no boundary scores")
    entries: dict[str, object] = {"width": known[0].width, "tolerance": known[0].tolerance}
    for stage, boundary in stages.items():
        entries[stage] = boundary and {
            "mean_iou": number(boundary.mean_iou()),
            "iou": [number(x) for x in boundary.iou().tolist()],
            "mean_f": number(boundary.mean_f()),
            "f": [number(x) for x in boundary.f().tolist()],
        }
    return entries


def boundaries_section(found: Stages[Boundary], names: Sequence[str]) -> html.Html:
    """A table with a row for each class and one for the means."""
    columns: dict[str, list[float]] = {}
    for stage, boundary in found.named().items():
        columns[f"boundary IoU {stage}, %"] = [*boundary.iou().tolist(), boundary.mean_iou()]
        columns[f"boundary F {stage}, %"] = [*boundary.f().tolist(), boundary.mean_f()]
    rows = [
        [name, *(_percent(column[i]) for column in columns.values())]
        for i, name in enumerate([*names, "mean"])
    ]
    words = (
        f"Boundary IoU: the inner edge of each region, {100 * found.before.width:g} % of the "
        "image's diagonal wide, over all images. Boundary F: edges that agree within "
        f"{100 * found.before.tolerance:g} % of the diagonal, mean over the images of each class."
    )
    table = html.table(["class", *columns], rows, row_classes=[""] * len(names) + ["total"])
    return html.section("Boundaries", table, html.paragraph(words, note=True))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.3f}"


def _plot(lines: Mapping[str, Floats]) -> html.Html:
    if all(np.isnan(values).all() for values in lines.values()):
        return html.paragraph("No pixel is in any band: the truth has no void boundary.")
    curves = {
        name: [(width, 100 * value) for width, value in enumerate(values.tolist(), 1)]
        for name, values in lines.items()
    }
    x, y = Axis("width of the band, pixels"), Axis("mean IoU, %")
    return draw_chart(Chart(curves, x, y, "mean IoU in per cent against the width of the band"))
