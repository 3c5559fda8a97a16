"""Results that must be equal, and the only excuse for a difference: a tie of Caffe's own scores.

A label is decided by which of two scores is larger. Where the two differ by no more than Caffe's
own distance to the exact scores, either label is right, and the place is counted instead of
failed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_port.parity.topology import Layer

Scores = NDArray[np.float32]
Places = NDArray[np.bool_]

#: Top ratios of counts over labels decided by scores.
COUNTING = frozenset({"Accuracy", "SegAccuracy"})


def is_choice(layer: Layer, top: int) -> bool:
    """Top number ``top`` of the layer holds indices: ArgMax's labels, max pooling's mask."""
    if layer.type == "ArgMax":
        return not getattr(layer.op, "out_max_val", False)
    return layer.type == "Pooling" and top == 1


def choice_ties(
    layer: Layer, scores: Scores, port: NDArray[np.floating], caffe: Scores, error: float
) -> Places:
    """Places where the port's choice and Caffe's have scores that tie within ``error``.

    Args:
        layer: an ArgMax or a max Pooling with a mask.
        scores: what it chose from, as Caffe recorded it.
        port, caffe: indices chosen, same shape.
        error: two scores that differ by at most this tie.
    Returns:
        places in the shape of ``caffe``; all False when the scores cannot be laid out.
    """
    axis, table = 1, scores.reshape(*scores.shape[:1], -1) if scores.ndim else scores
    chosen = (port, caffe)
    if layer.type == "Pooling":
        axis, table = 2, scores.reshape(*scores.shape[:2], -1)
    elif (given := getattr(layer.op, "axis", None)) is not None:
        axis, table = int(given) % scores.ndim, scores
    elif caffe.ndim == 4 and caffe.shape[2:] == scores.shape[2:] and scores.ndim == 4:
        table = scores  # old DeepLab: one label per pixel
    if layer.type == "Pooling" or table.ndim != caffe.ndim:
        chosen = (port.reshape(*table.shape[:axis], -1), caffe.reshape(*table.shape[:axis], -1))
    picked = [_pick(table, index, axis) for index in chosen]
    if picked[0] is None or picked[1] is None:
        return np.zeros(caffe.shape, bool)
    return (np.abs(picked[0] - picked[1]) <= error).reshape(caffe.shape)


def count_ties(scores: Scores, labels: Scores, error: float) -> int:
    """Positions where a class's score ties with the label's, or the two best tie.

    Args:
        scores: (N, C, ...) as Caffe recorded them.
        labels: as many labels as positions; those outside [0, C) are skipped.
        error: two scores that differ by at most this tie.
    """
    by_class = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1]).astype(np.float64)
    flat = labels.reshape(-1)
    if scores.shape[1] < 2 or len(flat) != len(by_class):
        return 0
    valid = (flat >= 0) & (flat < scores.shape[1])
    by_class, index = by_class[valid], flat[valid].astype(np.int64)
    own = np.take_along_axis(by_class, index[:, None], 1)
    near_label = (np.abs(by_class - own) <= error).sum(1) > 1
    best = np.sort(by_class, 1)
    return int((near_label | (best[:, -1] - best[:, -2] <= error)).sum())


def _pick(table: Scores, index: NDArray[np.floating], axis: int) -> NDArray[np.float64] | None:
    whole = index.astype(np.int64)
    if table.ndim != whole.ndim or (whole != index).any() or not index.size:
        return None
    if whole.min() < 0 or whole.max() >= table.shape[axis]:
        return None
    others = [n for i, n in enumerate(table.shape) if i != axis]
    if others != [n for i, n in enumerate(whole.shape) if i != axis]:
        return None
    picked: NDArray[np.float64] = np.take_along_axis(table, whole, axis).astype(np.float64)
    return picked
