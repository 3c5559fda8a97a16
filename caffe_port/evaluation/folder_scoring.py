"""Scores what other programs left in a folder: label maps, scores or probabilities.

Source: DeepLab v2, matlab/my_script/EvalSegResults.m, for what is scored and how it is cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.crf.files import MAT_SUFFIX, SUFFIXES, read_array, read_bin, read_scores
from caffe_port.data.images import Bytes, read_labels, size_advice
from caffe_port.data.voc import VOCItem
from caffe_port.datasets.rules import LabelRules
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.boundary import Boundary
from caffe_port.evaluation.figures import ImageRow, image_row
from caffe_port.evaluation.scoring import ConfusionMatrix, expect_fit

LabelMap = npt.NDArray[np.int64]
KINDS = {"png": ".png", "bin": ".bin", "mat": MAT_SUFFIX, **SUFFIXES}


@dataclass
class Scored:
    """The result of ``score``.

    Attributes:
        matrix: over all images that could be scored.
        failed: the faults of the others, in the list's order.
        unknown: truth pixels by label that is no class, where these are ignored.
        void: truth pixels that the data set leaves out.
        rows: the figures of each image, in the list's order.
        boundary: boundary scores over the same images; None where they were not asked for.
    """

    matrix: ConfusionMatrix
    failed: list[str] = field(default_factory=list)
    unknown: dict[int, int] = field(default_factory=dict)
    void: int = 0
    rows: list[ImageRow] = field(default_factory=list)
    boundary: Boundary | None = None

    def add(self, part: Scored) -> None:
        """Adds the result of further images."""
        self.matrix.merge(part.matrix)
        self.failed += part.failed
        self.void += part.void
        self.rows += part.rows
        if self.boundary is not None and part.boundary is not None:
            self.boundary.merge(part.boundary)
        for label, pixels in part.unknown.items():
            self.unknown[label] = self.unknown.get(label, 0) + pixels


def find_kind(folder: Path, items: Sequence[VOCItem]) -> str:
    """The kind of files that a folder has for the items, the first of ``KINDS``.

    Raises:
        UsageError: it has none.
    """
    for kind, suffix in KINDS.items():
        if any((folder / f"{item.id}{suffix}").is_file() for item in items):
            return kind
    known = ", ".join(f"NAME{suffix}" for suffix in KINDS.values())
    raise UsageError(f"{folder}: no file for any of the {len(items)} images; expected {known}")


def read_prediction(
    path: Path,
    kind: str,
    size: tuple[int, ...],
    background: float | None = None,
    colours: Bytes | None = None,
) -> LabelMap:
    """The label map of a file.

    Args:
        kind: 'png' label maps; 'bin' label maps, or probabilities; 'mat' scores of the padded
            image, which are cut to the image; 'npy', 'npz' and 'h5' label maps, or scores or
            probabilities, which are cut in the same way.
        size: height and width of the truth.
        background: the score of class 0 where a file has activation maps of other classes.
        colours: of the data set, see ``read_labels``.
    Returns:
        (H, W), the class of the largest value, the lowest of equals.
    Raises:
        CaffePortError: missing, broken or smaller than the truth.
    """
    if kind == "png":
        return read_labels(path, colours).astype(np.int64)
    if kind == "bin":
        values = read_bin(path)
        return (values if values.ndim == 2 else values.argmax(0)).astype(np.int64)
    if kind in SUFFIXES:
        array = read_array(path, background)
        if array.ndim == 2:
            return array.astype(np.int64)
        scores = array.astype(np.float32, copy=False)
    else:
        scores = read_scores(path)
    if scores.shape[1] < size[0] or scores.shape[2] < size[1]:
        found = f"{scores.shape[2]}x{scores.shape[1]}"
        raise DataError(f"{path}: scores of {found} do not cover {size[1]}x{size[0]} pixels")
    labels: LabelMap = scores[:, : size[0], : size[1]].argmax(0).astype(np.int64)
    return labels


def score(
    folder: Path,
    items: Sequence[VOCItem],
    kind: str,
    classes: int,
    *,
    rules: LabelRules | None = None,
    background: float | None = None,
    boundary: bool = False,
    colours: Bytes | None = None,
    jobs: int = 1,
) -> Scored:
    """One confusion matrix over the items; what cannot be scored is named and left out.

    Args:
        rules: how the truth's labels become classes; by default as they are, 255 ignored.
        background, colours: see ``read_prediction``.
        boundary: also score boundaries.
    Raises:
        UsageError: an item has no truth, or the truth's labels are not the predictions' classes.
    """
    if unlabelled := [item.where for item in items if item.label is None]:
        raise UsageError(f"{unlabelled[0]}: no label map, so nothing to score against")
    found = rules or LabelRules()
    found.expect_classes(classes)
    result = _empty(classes, boundary)
    pool = ThreadPoolExecutor(jobs)
    try:
        each = partial(_one, folder, kind, classes, found, background, boundary, colours)
        for part in pool.map(each, items):
            result.add(part)
    finally:
        pool.shutdown(cancel_futures=True)
    expect_fit(result.matrix, result.unknown, result.void, stated=rules is not None)
    return result


def _empty(classes: int, boundary: bool) -> Scored:
    return Scored(ConfusionMatrix(classes), boundary=Boundary(classes) if boundary else None)


def _one(
    folder: Path,
    kind: str,
    classes: int,
    rules: LabelRules,
    background: float | None,
    boundary: bool,
    colours: Bytes | None,
    item: VOCItem,
) -> Scored:
    """An image's part of the whole."""
    part, path = _empty(classes, boundary), folder / f"{item.id}{KINDS[kind]}"
    try:
        assert item.label is not None
        truth = rules.read(item.label, classes)
        prediction = read_prediction(path, kind, truth.labels.shape, background, colours)
        if prediction.shape != truth.labels.shape:
            advice = size_advice(item.image, truth.labels.shape)
            sizes = f"truth is {truth.labels.shape}, the prediction {prediction.shape}"
            raise DataError(f"{sizes}{advice}")
        part.matrix.add(truth.labels, prediction)
        if part.boundary is not None:
            part.boundary.add(truth.labels, prediction.astype(np.uint8))
        part.rows = [image_row(item, [part.matrix])]
        part.unknown, part.void = truth.unknown, int(truth.void.sum())
    except CaffePortError as error:
        message = str(error)
        named = message if str(path) in message else f"{path}: {message}"
        part.failed, part.rows = [named], [image_row(item, [None], named)]
    return part
