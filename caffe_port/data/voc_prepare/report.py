"""The outcome of preparing or checking a folder, and its report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffe_port.data.images import read_labels, read_rgb, voc_palette
from caffe_port.data.list_file import list_words
from caffe_port.data.voc import VOC_CLASSES
from caffe_port.data.voc_prepare.folders import PUBLISHED
from caffe_port.data.voc_prepare.layout import IGNORED, Counts
from caffe_port.errors import DataError
from caffe_port.files import write_text
from caffe_port.reports import html
from caffe_port.reports.images import photograph


@dataclass(frozen=True)
class Problem:
    """A file that is missing or broken: its image and its fault."""

    id: str
    message: str


@dataclass
class Outcome:
    """The outcome of preparing or checking a folder.

    Attributes:
        lists: images of each list.
        notes: differences from the published data, which are expected in other folders.
        problems: every missing or broken file, in order of the ids.
        masks: number of good masks by origin.
        made, kept: masks written now, and those kept from an earlier run.
        classes: their number; 21 get VOC's names.
        images, pixels: for each of 256 labels, good masks that have it, and its pixels there.
    """

    lists: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=dict)
    made: int = 0
    kept: int = 0
    classes: int = len(VOC_CLASSES)
    images: Counts = field(default_factory=lambda: np.zeros(256, np.int64))
    pixels: Counts = field(default_factory=lambda: np.zeros(256, np.int64))

    def class_rows(self) -> list[tuple[str, int, float]]:
        """Name of each label that occurs, images that have it, its share of the pixels in %."""
        total = max(int(self.pixels.sum()), 1)
        names = {label: f"class {label}" for label in range(self.classes)} | {IGNORED: "void"}
        if self.classes == len(VOC_CLASSES):
            names |= dict(enumerate(VOC_CLASSES))
        rows = []
        for label in np.nonzero(self.images)[0]:
            name = names[int(label)]
            share = 100 * int(self.pixels[label]) / total
            rows.append((name, int(self.images[label]), share))
        return rows

    def to_json(self) -> dict[str, object]:
        """Everything that does not depend on earlier runs."""
        return {
            "lists": {
                name: {"images": count, "published": PUBLISHED.get(name)}
                for name, count in self.lists.items()
            },
            "masks": self.masks,
            "notes": self.notes,
            "problems": [{"id": p.id, "message": p.message} for p in self.problems],
            "classes": [
                {"name": name, "images": images, "pixels_percent": round(share, 6)}
                for name, images, share in self.class_rows()
            ],
        }

    def write_json(self, path: Path) -> None:
        """Writes ``to_json``, whole or not at all."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")


_IMAGES, _LARGEST = 10, 240  # how many, and pixels of the longer side


def write_reports(outcome: Outcome, out: Path) -> Path:
    """Writes report.json and report.html into the prepared folder; returns the page's path."""
    outcome.write_json(out / "report.json")
    sections = [
        html.section("Lists", _lists(outcome), *map(html.paragraph, outcome.notes)),
        html.section("Files that are missing or broken", _problems(outcome)),
        html.section("Classes", _classes(outcome)),
        html.section("Images", html.figure_grid(_figures(out))),
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
    number = min(_IMAGES, len(pairs))
    figures = []
    for words in (pairs[i * len(pairs) // number] for i in range(number)):
        image, mask = (out / word.lstrip("/") for word in words)
        try:
            figures.append(html.figure(_blended(image, mask), mask.stem))
        except DataError:
            continue  # named among the broken files
    return figures


def _blended(image: Path, mask: Path) -> bytes:
    pixels, labels = read_rgb(image), read_labels(mask)
    if pixels.shape[:2] != labels.shape:
        raise DataError(f"{mask}: not of its image's size")
    mixed = np.where(labels[:, :, None] > 0, 0.4 * pixels + 0.6 * voc_palette()[labels], pixels)
    return photograph(mixed.astype(np.uint8), largest=_LARGEST)
