"""What came of preparing or checking a folder, as figures and as report files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffe_port.data.voc import VOC_CLASSES
from caffe_port.data.voc_prepare.folders import PUBLISHED
from caffe_port.data.voc_prepare.items import IGNORED, Counts
from caffe_port.files import write_text


@dataclass(frozen=True)
class Problem:
    """A file that is missing or broken: the image it belongs to and what is wrong."""

    id: str
    message: str


@dataclass
class Outcome:
    """The result.

    Attributes:
        lists: images of each list.
        notes: what is unlike the published data; no harm in other folders.
        problems: every missing or broken file, in order of the ids.
        masks: how many good masks came from where.
        made, kept: masks written now, and found done from an earlier run.
        classes: how many there are; 21 are taken for VOC's.
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
        """Everything that does not depend on what an earlier run had done."""
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
