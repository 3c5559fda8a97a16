"""One confusion matrix over a whole data set, and the figures read off it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.errors import DataError, UsageError

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer[Any]]


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    Figures come from the sum over all images; averaging them image by image gives other numbers
    than VOC's. A class that is in neither truth nor prediction is absent: its IoU is NaN and it
    is left out of the means, where Caffe's SegAccuracy layer counts it as 1.

    Args:
        classes: number of classes C, 1 to 255.
        ignore_label: truth pixels of this label do not count.
        counts: (C, C) to start from.
    Raises:
        UsageError: classes or counts out of range.
    Source: the VOC development kit, VOCevalseg; facts of the IoU as in DeepLab's scripts.
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

    def _union(self) -> Counts:
        union: Counts = self.counts.sum(axis=0) + self.counts.sum(axis=1) - np.diag(self.counts)
        return union


def image_iou(counts: Counts | None) -> float:
    """Mean IoU of one image alone, NaN without truth; only good for putting images in order."""
    return math.nan if counts is None else ConfusionMatrix(len(counts), counts=counts).mean_iou()


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
