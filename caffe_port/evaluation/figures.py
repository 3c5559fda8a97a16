"""The figures of an evaluation as JSON, the names of its classes, and reference figures."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from caffe_port.data.images import PathLike
from caffe_port.data.voc import VOC_CLASSES
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, changes_json, image_iou
from caffe_port.files import read_text, reading


@dataclass(frozen=True)
class Reference:
    """Figures from elsewhere for the same images.

    Args:
        name: their origin.
        mean_iou: before and after the CRF, as shares of 1; None where unknown.
        per_class: IoU per class before and after; empty where unknown.
    """

    name: str
    mean_iou: tuple[float | None, float | None]
    per_class: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())


def read_reference(path: PathLike, name: str) -> Reference:
    """Figures from JSON: ``{"raw": {"mean_iou": x, "per_class": [..]}, "crf": {..}}``.

    A report.json of this package ("before", "after", "iou") is accepted too.

    Raises:
        DataError: the file is missing or of another form.
    """
    try:
        with reading(path):
            values = json.loads(read_text(path))
        parts = [values.get(old) or values.get(new) or {} for old, new in _PARTS]
        means = tuple(float(part["mean_iou"]) if part else None for part in parts)
        lists = tuple(
            tuple(
                math.nan if x is None else float(x)
                for x in part.get("per_class", part.get("iou", []))
            )
            for part in parts
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: expected {{"raw": {{"mean_iou": .., "per_class": [..]}}, "crf": ..}}, '
            f"found something else ({error})"
        ) from error
    return Reference(name, (means[0], means[1]), (lists[0], lists[1]))


_PARTS = (("raw", "before"), ("crf", "after"))


def class_names(classes: int, path: PathLike | None = None) -> list[str]:
    """Names of the classes: from a file with one on each line, VOC's for 21, or numbers.

    Raises:
        DataError: the file cannot be read.
        UsageError: the file has another number of names.
    """
    if path is None:
        return list(VOC_CLASSES) if classes == len(VOC_CLASSES) else list(map(str, range(classes)))
    names = read_class_names(path)
    if len(names) != classes:
        raise UsageError(f"{path}: {len(names)} class names for a network of {classes} classes")
    return names


def read_class_names(path: PathLike) -> list[str]:
    """The names in a file with one on each line.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with reading(path, "the class names"):
            lines = read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the class names cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def as_json(result: Result, names: Sequence[str]) -> dict[str, object]:
    """The content of report.json: figures, settings, versions, every image."""
    per_image = [
        {
            "id": outcome.id,
            "error": outcome.error or None,
            "mean_iou_before": number(image_iou(outcome.before)),
            "mean_iou_after": number(image_iou(outcome.after)),
            "seconds": None if outcome.reused or outcome.error else round(outcome.seconds, 4),
        }
        for outcome in result.outcomes
    ]
    return {
        "images": len(result.outcomes) - len(result.skipped),
        "skipped": [outcome.error for outcome in result.skipped],
        "classes": list(names),
        "before": matrix_json(result.before),
        "after": matrix_json(result.after),
        "crf_changes": None if result.changes is None else changes_json(result.changes),
        "ignored_unknown_labels": {str(k): v for k, v in sorted(result.unknown.items())},
        "settings": result.settings,
        "versions": versions(),
        "per_image": per_image,
    }


def versions() -> Mapping[str, str]:
    """Versions of the packages in use."""
    found = {"python": platform.python_version()}
    for name in ("caffe_port", "numpy", "torch", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN: None in its place."""
    return None if math.isnan(value) else value


def matrix_json(matrix: ConfusionMatrix | None) -> dict[str, object] | None:
    """A matrix and its figures, for a report.json."""
    if matrix is None:
        return None
    return {
        "mean_iou": number(matrix.mean_iou()),
        "pixel_accuracy": number(matrix.pixel_accuracy()),
        "mean_recall": number(matrix.mean_recall()),
        "frequency_weighted_iou": number(matrix.frequency_weighted_iou()),
        "iou": [number(x) for x in matrix.iou().tolist()],
        "absent": matrix.absent,
        "pixels": matrix.pixels,
        "confusion": matrix.counts.tolist(),
    }
