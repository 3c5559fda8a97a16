"""Trimap IoU: the score along object boundaries for bands of growing width, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import read_labels
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.figures import number
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, Floats, Labels
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart

WIDEST = 40  # pixels: where DeepLab's curve ends

Distances = npt.NDArray[np.int32]


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


@dataclass(frozen=True)
class Curves:
    """Trimaps of an evaluation; ``after`` is None without a refinement."""

    before: Trimap
    after: Trimap | None


def trimap_curves(result: Result) -> Curves:
    """The trimaps of an evaluation's label maps, which must still be on disk.

    Labels beyond the classes, where they are ignored, do not count, but are not a boundary.

    Args:
        result: of an evaluation with truth.
    Raises:
        UsageError: no image has a truth.
        DataError: a label map is gone or damaged.
    """
    if result.before is None:
        raise UsageError("a trimap needs label maps to compare with, and the list has none")
    refined = result.after is not None
    both = [Trimap(result.classes) for _ in range(1 + refined)]
    for item, outcome in zip(result.items, result.outcomes, strict=True):
        if item.label is None or outcome.error:
            continue
        truth = result.rules.read(item.label, result.classes)
        distance = distances(truth.void)
        places = (result.store.before(item.id), result.store.after(item.id))
        for trimap, place in zip(both, places, strict=False):
            trimap.add(truth.labels, read_labels(place, result.store.colours), distance)
    return Curves(both[0], both[1] if refined else None)


def trimap_json(curves: Curves) -> dict[str, object]:
    """Band widths in pixels, and mean IoU and counted pixels within each, by stage."""
    entries: dict[str, object] = {"pixels_wide": list(range(1, curves.before.widest + 1))}
    for stage, trimap in (("before", curves.before), ("after", curves.after)):
        entries[stage] = trimap and {
            "mean_iou": [number(value) for value in trimap.mean_iou().tolist()],
            "pixels": [matrix.pixels for matrix in trimap.matrices()],
        }
    return entries


def trimap_section(curves: Curves) -> html.Html:
    """A plot and a table of mean IoU against the band's width."""
    if curves.after is None:
        lines = {"network": curves.before.mean_iou()}
    else:
        lines = {
            "before CRF": curves.before.mean_iou(),
            "after CRF": curves.after.mean_iou(),
        }
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


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.3f}"


def _plot(lines: Mapping[str, Floats]) -> html.Html:
    if all(np.isnan(values).all() for values in lines.values()):
        return html.paragraph("No pixel lies in any band: the truth has no void boundary.")
    curves = {
        name: [(width, 100 * value) for width, value in enumerate(values.tolist(), 1)]
        for name, values in lines.items()
    }
    x, y = Axis("width of the band, pixels"), Axis("mean IoU, %")
    return draw_chart(Chart(curves, x, y, "mean IoU in per cent against the width of the band"))
