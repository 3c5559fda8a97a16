"""Scoring what other programs left in a folder: label maps, scores or probabilities.

Source: DeepLab v2, matlab/my_script/EvalSegResults.m, for what is scored and how it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.crf.files import MAT_SUFFIX, read_bin, read_scores
from caffe_port.data.pictures import read_labels
from caffe_port.data.voc import VOCItem
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.confusion import ConfusionMatrix

Labels = npt.NDArray[np.int64]
KINDS = {"png": ".png", "bin": ".bin", "mat": MAT_SUFFIX}


@dataclass
class Scored:
    """What came of it.

    Attributes:
        matrix: over all images that could be scored.
        failed: what was wrong with the others, in the list's order.
    """

    matrix: ConfusionMatrix
    failed: list[str] = field(default_factory=list)


def find_kind(folder: Path, items: Sequence[VOCItem]) -> str:
    """Which files of a folder belong to the items: 'png', 'bin' or 'mat', in this order.

    Raises:
        UsageError: none do.
    """
    for kind, suffix in KINDS.items():
        if any((folder / f"{item.id}{suffix}").is_file() for item in items):
            return kind
    known = ", ".join(f"NAME{suffix}" for suffix in KINDS.values())
    raise UsageError(f"{folder}: holds nothing for the {len(items)} images; expected {known}")


def read_prediction(path: Path, kind: str, size: tuple[int, ...]) -> Labels:
    """The label map of a file.

    Args:
        kind: 'png' label maps; 'bin' label maps, or probabilities; 'mat' scores of the padded
            image, which are cut.
        size: height and width of the truth.
    Returns:
        (H, W), the class of the largest value, the lowest of equals.
    Raises:
        CaffePortError: missing, broken or smaller than the truth.
    """
    if kind == "png":
        return read_labels(path).astype(np.int64)
    if kind == "bin":
        values = read_bin(path)
        return (values if values.ndim == 2 else values.argmax(0)).astype(np.int64)
    scores = read_scores(path)
    if scores.shape[1] < size[0] or scores.shape[2] < size[1]:
        found = f"{scores.shape[2]}x{scores.shape[1]}"
        raise DataError(f"{path}: scores of {found} do not cover {size[1]}x{size[0]} pixels")
    labels: Labels = scores[:, : size[0], : size[1]].argmax(0).astype(np.int64)
    return labels


def score(
    folder: Path,
    items: Sequence[VOCItem],
    kind: str,
    classes: int,
    *,
    jobs: int = 1,
) -> Scored:
    """One confusion matrix over the items; what cannot be scored is named and left out.

    Raises:
        UsageError: an item has no truth.
    """
    if unlabelled := [item.where for item in items if item.label is None]:
        raise UsageError(f"{unlabelled[0]}: no label map, so nothing to score against")

    def one(item: VOCItem) -> ConfusionMatrix | str:
        matrix, path = ConfusionMatrix(classes), folder / f"{item.id}{KINDS[kind]}"
        try:
            assert item.label is not None
            truth = read_labels(item.label)
            matrix.add(truth, read_prediction(path, kind, truth.shape))
        except CaffePortError as error:
            message = str(error)
            return message if str(path) in message else f"{path}: {message}"
        return matrix

    result = Scored(ConfusionMatrix(classes))
    pool = ThreadPoolExecutor(jobs)
    try:
        for found in pool.map(one, items):
            if isinstance(found, str):
                result.failed.append(found)
            else:
                result.matrix.merge(found)
    finally:
        pool.shutdown(cancel_futures=True)
    return result
