"""The report of a prepared folder: counts, classes, what is wrong, and pictures to look at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from caffe_port import html
from caffe_port.data.list_file import list_words
from caffe_port.data.pictures import read_labels, read_rgb, voc_palette
from caffe_port.data.voc_prepare.folders import PUBLISHED
from caffe_port.data.voc_prepare.outcome import Outcome
from caffe_port.errors import DataError
from caffe_port.files import write_text

_PICTURES, _LARGEST = 10, 240  # how many, and pixels of the longer side


def write_reports(outcome: Outcome, out: Path) -> Path:
    """Writes report.json and report.html into the prepared folder; returns the page's path."""
    outcome.write_json(out / "report.json")
    sections = [
        html.section("Lists", _lists(outcome), *map(html.paragraph, outcome.notes)),
        html.section("Files that are missing or broken", _problems(outcome)),
        html.section("Classes", _classes(outcome)),
        html.section("Pictures", html.figure_grid(_figures(out))),
    ]
    masks = ", ".join(f"{count:,} masks of {source}" for source, count in outcome.masks.items())
    page = html.page("VOC as DeepLab trained on it", sections, subtitle=masks)
    write_text(out / "report.html", page)
    return out / "report.html"


def _lists(outcome: Outcome) -> html.Html:
    rows, kinds = [], []
    for name, count in outcome.lists.items():
        published = PUBLISHED.get(name)
        rows.append([name, f"{count:,}", "-" if published is None else f"{published:,}"])
        kinds.append("pass" if count == published else "warn")
    return html.table(["list", "images", "published"], rows, row_classes=kinds)


def _problems(outcome: Outcome) -> html.Html:
    if not outcome.problems:
        return html.paragraph("None.")
    rows = [[problem.id, problem.message] for problem in outcome.problems]
    return html.table(["image", "what is wrong"], rows, align=["left", "left"])


def _classes(outcome: Outcome) -> html.Html:
    rows = [[name, f"{count:,}", f"{share:.3f}"] for name, count, share in outcome.class_rows()]
    return html.table(["label", "images", "of all pixels, %"], rows)


def _figures(out: Path) -> list[html.Html]:
    """Images under their masks, evenly spread over the largest list."""
    lists = [path for path in sorted((out / "list").glob("*.txt")) if path.stem[-3:] != "_id"]
    pairs = max(([w for _, w in list_words(p) if len(w) == 2] for p in lists), key=len, default=[])
    number = min(_PICTURES, len(pairs))
    figures = []
    for words in (pairs[i * len(pairs) // number] for i in range(number)):
        image, mask = (out / word.lstrip("/") for word in words)
        try:
            figures.append(html.figure(_blended(image, mask), mask.stem))
        except DataError:
            continue  # named among the broken files
    return figures


def _blended(image: Path, mask: Path) -> bytes:
    from PIL import Image

    pixels, labels = read_rgb(image), read_labels(mask)
    if pixels.shape[:2] != labels.shape:
        raise DataError(f"{mask}: not of its image's size")
    mixed = np.where(labels[:, :, None] > 0, 0.4 * pixels + 0.6 * voc_palette()[labels], pixels)
    picture = Image.fromarray(mixed.astype(np.uint8))
    picture.thumbnail((_LARGEST, _LARGEST))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()
