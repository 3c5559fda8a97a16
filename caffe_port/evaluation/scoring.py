"""Confusion matrices, their scores, and whether the truth's labels are the network's classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.errors import DataError, UsageError, option
from caffe_port.reports import html

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer[Any]]


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    Scores follow from the sum over all images, as VOC's; means over images differ from them. A
    class in neither truth nor prediction is absent: its IoU is NaN and the means leave it out,
    while Caffe's SegAccuracy layer counts it as 1.

    Args:
        classes: number of classes C, 1 to 255.
        ignore_label: truth pixels of this label do not count.
        counts: (C, C) to start from.
    Raises:
        UsageError: classes or counts out of range.
    Source: the VOC development kit, VOCevalseg; DeepLab's scripts for the IoU.
    """

    def __init__(
        self, classes: int, *, ignore_label: int = 255, counts: npt.ArrayLike | None = None
    ) -> None:
        if not 1 <= classes <= 255:
            raise UsageError(f"1 to 255 classes are possible, got {classes}")
        self.classes, self.ignore_label = classes, ignore_label
        given = np.zeros((classes, classes)) if counts is None else np.asarray(counts)
        if given.shape != (classes, classes) or (given < 0).any():
            raise UsageError(f"counts must be ({classes}, {classes}) and none negative")
        self.counts: Counts = given.astype(np.int64)

    def __repr__(self) -> str:
        return f"<ConfusionMatrix {self._summary()}>"

    def _repr_html_(self) -> str:
        from caffe_port.reports.html import folded

        truth, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        iou, recall = self.iou(), self.recall()
        return folded(
            f"ConfusionMatrix {self._summary()}",
            ("class", "IoU, %", "accuracy, %", "pixels", "predicted", "right"),
            range(self.classes),
            lambda i: (
                i, f"{100 * iou[i]:.2f}", f"{100 * recall[i]:.2f}",
                int(truth[i]), int(predicted[i]), int(self.counts[i, i]),
            ),
        )  # fmt: skip

    def _summary(self) -> str:
        iou, accuracy = 100 * self.mean_iou(), 100 * self.pixel_accuracy()
        shares = f"mean IoU {iou:.2f} %, accuracy {accuracy:.2f} %"
        return f"of {self.classes} classes, {self.pixels:,} pixels: {shares}"

    def add(self, truth: Labels, prediction: Labels) -> None:
        """Counts one image.

        Args:
            truth: (H, W) classes or ``ignore_label``.
            prediction: (H, W) classes.
        Raises:
            DataError: shapes differ, or a label is outside the classes.
        """
        if truth.shape != prediction.shape:
            raise DataError(f"truth is {truth.shape}, the prediction {prediction.shape}")
        valid = truth != self.ignore_label
        rows, columns = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
        self._check("truth", rows)
        self._check("prediction", columns)
        pairs = np.bincount(rows * self.classes + columns, minlength=self.classes**2)
        self.counts += pairs.reshape(self.classes, self.classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds another matrix of the same classes, in place.

        Raises:
            UsageError: the numbers of classes differ.
        """
        if other.classes != self.classes:
            raise UsageError(f"matrices of {self.classes} and {other.classes} classes")
        self.counts += other.counts

    def _check(self, what: str, labels: Counts) -> None:
        outside = np.unique(labels[(labels < 0) | (labels >= self.classes)])
        if outside.size:
            raise DataError(
                f"{what} holds label {', '.join(map(str, outside[:5]))}, outside the "
                f"{self.classes} classes 0 to {self.classes - 1} (ignored: {self.ignore_label})"
            )

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return int(self.counts.sum())

    @property
    def absent(self) -> list[int]:
        """Classes in neither truth nor prediction, left out of the mean IoU."""
        return [int(c) for c in np.flatnonzero(self._union() == 0)]

    def iou(self) -> Floats:
        """(C,) intersection over union, TP / (TP + FP + FN), NaN for absent classes."""
        return _ratio(np.diag(self.counts), self._union())

    def mean_iou(self) -> float:
        """Mean of ``iou`` over the classes that are not absent; NaN without any."""
        return _mean(self.iou())

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels whose class is right; NaN without any."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def recall(self) -> Floats:
        """(C,) share of each true class's pixels that are found, NaN where there are none."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    def mean_recall(self) -> float:
        """Mean of ``recall`` over the classes present in the truth; NaN without any."""
        return _mean(self.recall())

    def frequency_weighted_iou(self) -> float:
        """Mean of ``iou`` weighted by each true class's share of the pixels; NaN without any."""
        of_class = self.counts.sum(axis=1)
        present = of_class > 0
        if not present.any():
            return float("nan")
        return float((of_class[present] * self.iou()[present]).sum() / of_class.sum())

    def _union(self) -> Counts:
        union: Counts = self.counts.sum(axis=0) + self.counts.sum(axis=1) - np.diag(self.counts)
        return union


def image_iou(counts: Counts | None) -> float:
    """Mean IoU of one image alone, NaN without truth; only for sorting images."""
    return math.nan if counts is None else ConfusionMatrix(len(counts), counts=counts).mean_iou()


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


CHANGE_KINDS = ("pixels", "changed", "repaired", "broken")


def count_changes(
    truth: Labels, before: Labels, after: Labels, classes: int, *, ignore_label: int = 255
) -> Counts:
    """Pixels of each true class that a refinement changed.

    A changed pixel is repaired when it was wrong and is right, broken when it was right and is
    wrong; the others went from one wrong class to another.

    Args:
        truth: (H, W) classes or ``ignore_label``, whose pixels do not count.
        before, after: (H, W) classes.
        classes: number of classes C.
    Returns:
        (C, 4) pixels, changed, repaired, broken, in the order of ``CHANGE_KINDS``.
    """
    valid = truth != ignore_label
    changed = valid & (before != after)
    kinds = (valid, changed, changed & (after == truth), changed & (before == truth))
    counts = [np.bincount(truth[kind].astype(np.int64), minlength=classes) for kind in kinds]
    return np.stack(counts, axis=1)


def changes_json(counts: Counts) -> dict[str, object]:
    """The counts by name: in total and by class."""
    return {
        kind: {"total": int(column.sum()), "by_class": column.tolist()}
        for kind, column in zip(CHANGE_KINDS, counts.T, strict=True)
    }


def changes_section(counts: Counts, names: Sequence[str]) -> html.Html:
    """A table with a row for each true class and one for all."""
    lines = np.vstack([counts, counts.sum(axis=0)])
    rows = [_row(name, line) for name, line in zip([*names, "all"], lines, strict=True)]
    headers = [
        "true class",
        "pixels",
        "changed",
        "%",
        "repaired",
        "broken",
        "wrong to wrong",
        "net",
    ]
    words = (
        "Repaired: wrong before the CRF and right after it. Broken: the reverse. Net: repaired "
        "less broken. Ignored pixels do not count."
    )
    table = html.table(headers, rows, row_classes=[""] * len(names) + ["total"])
    return html.section("What the CRF changed", table, html.paragraph(words, note=True))


def _row(name: str, line: Counts) -> list[html.Cell]:
    pixels, changed, repaired, broken = line.tolist()
    share = f"{100 * changed / pixels:.2f}" if pixels else "-"
    neither = changed - repaired - broken
    cells = [f"{x:,}" for x in (repaired, broken, neither)]
    return [name, f"{pixels:,}", f"{changed:,}", share, *cells, f"{repaired - broken:+,}"]


_MATCH = 0.3  # IoU from which a class is taken to be predicted where a label is
_FEWEST = 3  # classes that must be predicted at other labels; fewer may be a poor network
_SHOWN = 5


def expect_fit(
    matrix: ConfusionMatrix | None, unknown: Collection[int], void: int, *, stated: bool
) -> None:
    """Raises where the truth is numbered in another way than the network's classes.

    Three signs are looked for: classes that are predicted where other labels are; one label
    beyond the classes and the others predicted as the class before, as in label maps that start
    at 1; and a truth of one class and ignored pixels alone, as in masks of 0 and 255.

    Args:
        matrix: over all images; None without truth.
        unknown: labels beyond the classes, where these are ignored.
        void: ignored pixels.
        stated: whether the user said which labels the truth holds.
    Raises:
        UsageError: a sign was found.
    """
    if matrix is None:
        return
    iou = _iou(matrix)
    moved = _moved(iou)
    if len(moved) >= _FEWEST:
        raise UsageError(_of_moved(moved))
    if set(unknown) == {matrix.classes} and _is_shifted(iou):
        raise UsageError(
            f"the labels seem to start at 1: label {matrix.classes} is the only one beyond the "
            f"{matrix.classes} classes, and other labels are predicted as the class before. The "
            "score would be that of classes shifted by one. If 0 means that a pixel has no label: "
            f"{option('reduce_zero_label', True)}; if {matrix.classes} is a class that the network "
            f"does not know: {option('label_map', 'FILE.json')}"
        )
    present = np.flatnonzero(matrix.counts.sum(axis=1)).tolist()
    if present == [0] and matrix.classes > 1 and void and not (stated or unknown):
        raise UsageError(
            f"the truth holds nothing but label 0 and {void:,} pixels of the ignored label, so the "
            "score would be that of one class. If these are masks in which 255 is the object, "
            f'{option("label_map", "FILE.json")} with {{"0": 0, "255": 1}} in the file; if '
            f"255 does mean that a pixel does not count, {option('ignore_label', 255)}"
        )


def _iou(matrix: ConfusionMatrix) -> Floats:
    """(C, C) the IoU of each label with each predicted class."""
    counts = matrix.counts.astype(np.float64)
    union = counts.sum(axis=1)[:, None] + counts.sum(axis=0)[None, :] - counts
    iou: Floats = np.divide(counts, union, out=np.zeros_like(counts), where=union > 0)
    return iou


def _moved(iou: Floats) -> list[tuple[int, int, float]]:
    """Labels, the other class that is predicted there, and the IoU; [] where most classes fit."""
    if np.count_nonzero(iou >= _MATCH) - np.count_nonzero(np.diag(iou) >= _MATCH) < _FEWEST:
        return []  # too few pairs; SciPy's optimizer takes a third of a second to import

    from scipy.optimize import linear_sum_assignment

    labels, classes = linear_sum_assignment(-iou)
    pairs = list(zip(labels.tolist(), classes.tolist(), strict=True))
    moved = [(t, p, float(iou[t, p])) for t, p in pairs if t != p and iou[t, p] >= _MATCH]
    right = int((np.diag(iou) >= _MATCH).sum())
    return moved if len(moved) > right else []


def _is_shifted(iou: Floats) -> bool:
    """Whether two or more labels, and more than have their own, have the class before."""
    before, own = (int((np.diag(iou, k) >= _MATCH).sum()) for k in (-1, 0))
    return before >= 2 and before > own


def _of_moved(moved: list[tuple[int, int, float]]) -> str:
    shown = ", ".join(
        f"class {p} where the truth has label {t} (IoU {100 * iou:.0f} %)"
        for t, p, iou in moved[:_SHOWN]
    )
    more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    by = {p - t for t, p, _ in moved}
    what = f"are shifted by {by.pop():+d}" if len(by) == 1 else "are numbered in another way"
    return (
        f"the predicted classes {what} compared with the truth: {shown}{more}. The score would be "
        f"that of wrong classes. Say what the labels mean: name the data set "
        f"({option('dataset', 'NAME')}), {option('reduce_zero_label', True)} for labels that start "
        f"at 1, or map them ({option('label_map', 'FILE.json')})"
    )
