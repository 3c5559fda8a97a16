"""Boundary IoU and boundary F: how well the edges of regions agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes, read_labels
from caffe_port.datasets.rules import IGNORED
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.figures import number
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import Floats
from caffe_port.reports import html

WIDTH = 0.02  # of the image's diagonal: the band of boundary IoU, as published
TOLERANCE = 0.0075  # of the image's diagonal: the distance that boundary F allows
Mask = npt.NDArray[np.bool_]


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
    """The pixels of a mask beside (in x or in y) a pixel outside it or the image."""
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
class Boundaries:
    """The measures of an evaluation; ``after`` is None without a refinement."""

    before: Boundary
    after: Boundary | None

    def stages(self) -> Mapping[str, Boundary]:
        """By what they are of."""
        if self.after is None:
            return {"network": self.before}
        return {"before CRF": self.before, "after CRF": self.after}


def boundaries(result: Result) -> Boundaries:
    """The boundary measures of an evaluation's label maps, which must still be on disk.

    Raises:
        UsageError: no image has a truth.
        DataError: a label map is gone or damaged.
    """
    if result.before is None:
        raise UsageError("boundary scores need label maps to compare with, and the list has none")
    both = [Boundary(result.classes) for _ in range(1 + (result.after is not None))]
    for item, outcome in zip(result.items, result.outcomes, strict=True):
        if item.label is None or outcome.error:
            continue
        truth = result.rules.read(item.label, result.classes).labels
        places = (result.store.before(item.id), result.store.after(item.id))
        for boundary, place in zip(both, places, strict=False):
            boundary.add(truth, read_labels(place, result.store.colours))
    return Boundaries(both[0], both[1] if len(both) > 1 else None)


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


def boundaries_section(found: Boundaries, names: Sequence[str]) -> html.Html:
    """A table with a row for each class and one for the means."""
    columns: dict[str, list[float]] = {}
    for stage, boundary in found.stages().items():
        columns[f"boundary IoU {stage}, %"] = [*boundary.iou().tolist(), boundary.mean_iou()]
        columns[f"boundary F {stage}, %"] = [*boundary.f().tolist(), boundary.mean_f()]
    rows = [
        [name, *("-" if math.isnan(c[i]) else f"{100 * c[i]:.3f}" for c in columns.values())]
        for i, name in enumerate([*names, "mean"])
    ]
    words = (
        f"Boundary IoU: the inner edge of each region, {100 * found.before.width:g} % of the "
        "image's diagonal wide, over all images. Boundary F: edges that agree within "
        f"{100 * found.before.tolerance:g} % of the diagonal, mean over the images of each class."
    )
    table = html.table(["class", *columns], rows, row_classes=[""] * len(names) + ["total"])
    return html.section("Boundaries", table, html.paragraph(words, note=True))
