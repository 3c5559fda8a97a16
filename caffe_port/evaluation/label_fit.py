"""Whether the truth's labels are the network's classes; a score over others would be wrong."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from caffe_port.errors import UsageError, option
from caffe_port.evaluation.scoring import ConfusionMatrix, Floats

_MATCH = 0.3  # IoU from which a class is taken to be predicted where a label is
_FEWEST = 3  # classes that must be predicted at other labels; fewer may be a poor network
_SHOWN = 5


def expect_fit(
    matrix: ConfusionMatrix | None, unknown: Collection[int], void: int, *, stated: bool
) -> None:
    """Raises where the truth is numbered in another way than the network's classes.

    Three signs are looked for: classes that are predicted where other labels are; one label
    beyond the classes and the others predicted as the class before, as in label maps that start
    at 1; and a truth of one class
    and ignored pixels alone, as in masks of 0 and 255.

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
