"""An evaluation's figures as files of other forms: a table of images, a matrix as an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe_port.data.voc import VOCItem
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, Floats
from caffe_port.reports.images import encoded

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
