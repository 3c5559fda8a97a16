"""The figures of an evaluation: JSON, a table of images, the confusion matrix as an image."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

import numpy as np

from caffe_port.data.images import PathLike
from caffe_port.data.voc import VOC_CLASSES, VOCItem
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, Floats, changes_json, image_iou
from caffe_port.files import read_text, reading
from caffe_port.reports.html import encoded


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


_CELL, _EDGE, _LARGEST = 14, 4, 3000  # pixels
_DARK = np.array([8, 48, 107], np.float64)  # where all of a class's pixels are
_MOST_NAMES = 24  # characters


STAGES = ("_before", "_after")


@dataclass(frozen=True)
class ImageRow:
    """An image's figures, without its confusion matrix.

    Attributes:
        id, image: the image's id and file.
        error: why it has no figures, "" where it has some.
        pixels: how many were counted; None without a truth.
        figures: mean IoU and pixel accuracy of each stage, None where there is no stage.
        iou: (C,) of the last stage.
    """

    id: str
    image: str
    error: str = ""
    pixels: int | None = None
    figures: tuple[float | None, ...] = ()
    iou: Floats | None = field(default=None, repr=False, compare=False)


def image_row(
    item: VOCItem, matrices: Sequence[ConfusionMatrix | None], error: str = ""
) -> ImageRow:
    """The figures of one image.

    Args:
        item: the image.
        matrices: of the image alone, by stage; the last one that is there gives the IoU.
        error: why there are none.
    """
    known = [matrix for matrix in matrices if matrix is not None]
    figures = tuple(
        value
        for matrix in matrices
        for value in ((matrix.mean_iou(), matrix.pixel_accuracy()) if matrix else (None, None))
    )
    pixels, iou = (known[-1].pixels, known[-1].iou()) if known else (None, None)
    return ImageRow(item.id, str(item.image), error, pixels, figures, iou)


def evaluated_rows(result: Result) -> Iterator[ImageRow]:
    """The figures of an evaluation's images, before and after the CRF."""
    for item, outcome in zip(result.items, result.outcomes, strict=True):
        matrices = _matrix(outcome.before), _matrix(outcome.after)
        yield image_row(item, matrices, outcome.error)


def image_table(
    rows: Iterable[ImageRow], names: Sequence[str], stages: Sequence[str] = STAGES
) -> str:
    """Images as CSV: a row for each, with its figures at each stage.

    Args:
        rows: from ``evaluated_rows`` or ``image_row``.
        names: of the classes; the last columns are their IoU in the final label map.
        stages: the ends of the columns' names.
    Returns:
        Text with a header; shares of 1, empty where there is no figure.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    heads = [f"{what}{stage}" for stage in stages for what in ("mean_iou", "pixel_accuracy")]
    table.writerow(["id", "image", "error", "pixels", *heads, *(f"iou_{name}" for name in names)])
    for row in rows:
        classes = [None] * len(names) if row.iou is None else row.iou.tolist()
        figures = row.figures or [None] * len(heads)
        pixels = "" if row.pixels is None else row.pixels
        cells = [_cell(value) for value in [*figures, *classes]]
        table.writerow([row.id, row.image, row.error, pixels, *cells])
    return stream.getvalue()


def _matrix(counts: Counts | None) -> ConfusionMatrix | None:
    return None if counts is None else ConfusionMatrix(len(counts), counts=counts)


def _cell(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.6f}"


def confusion_image(matrix: ConfusionMatrix, names: Sequence[str]) -> bytes:
    """A confusion matrix as a PNG: a row for each true class, from white (none) to dark (all).

    Args:
        matrix: of C classes.
        names: of the classes, at the left; the columns have the same order from left to right.
    """
    from PIL import Image, ImageDraw

    classes = matrix.classes
    totals = np.maximum(matrix.counts.sum(axis=1, keepdims=True), 1)
    share = (matrix.counts / totals)[:, :, None]
    colours = np.rint(255 + share * (_DARK - 255)).astype(np.uint8)
    cell = max(1, min(_CELL, _LARGEST // classes))
    cells = Image.fromarray(colours.repeat(cell, axis=0).repeat(cell, axis=1))
    labels = [name.encode("ascii", "replace").decode()[:_MOST_NAMES] for name in names]
    written = cell >= _CELL - 2
    left = 6 * max(map(len, labels)) + 2 * _EDGE if written else _EDGE
    page = Image.new("RGB", (left + cells.width + _EDGE, cells.height + 2 * _EDGE), "white")
    page.paste(cells, (left, _EDGE))
    draw = ImageDraw.Draw(page)
    frame = (left - 1, _EDGE - 1, left + cells.width, _EDGE + cells.height)
    draw.rectangle(frame, outline=(160, 160, 160))
    for i, label in enumerate(labels if written else ()):
        draw.text((_EDGE, _EDGE + i * cell + 1), label, fill="black")
    return encoded(page, "PNG")
