"""The images a fine-tuning learns from and is judged on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from caffe_port.data.voc import VOCItem, voc_items
from caffe_port.errors import DataError
from caffe_port.files import write_text

_TRAIN_LISTS = ("train_aug", "train")


@dataclass(frozen=True)
class Images:
    """A VOC folder with its lists.

    Attributes:
        root: the folder.
        train, val: what is learned from and judged on, each with its label map.
    """

    root: Path
    train: tuple[VOCItem, ...]
    val: tuple[VOCItem, ...]

    def write_list(self, path: Path, items: tuple[VOCItem, ...]) -> None:
        """Writes a list for an ImageSegData layer whose root_folder is ``root``."""
        write_text(path, self._lines(items))

    def describe(self) -> dict[str, object]:
        """Digests of the lists, as JSON."""
        return {
            name: hashlib.sha256(self._lines(items).encode()).hexdigest()
            for name, items in (("train", self.train), ("val", self.val))
        }

    def _lines(self, items: tuple[VOCItem, ...]) -> str:
        lines = []
        for item in items:
            assert item.label is not None
            names = (os.path.relpath(path, self.root) for path in (item.image, item.label))
            lines.append(" ".join(f"/{name}" for name in names) + "\n")
        return "".join(lines)


def find_images(
    root: Path, train: str | None = None, val: str | None = None, labels: Path | None = None
) -> Images:
    """Reads the lists.

    Args:
        root: a VOC folder.
        train: a list file, or the name of one; train_aug, else train, when absent.
        val: likewise; val when absent.
        labels: folder of the label maps, where neither lists nor VOC's layout say it.
    Raises:
        DataError: a list, an image or a label map is missing.
    """
    lists = root / "ImageSets" / "Segmentation"
    if train is None:
        usual = (name for name in _TRAIN_LISTS if (lists / f"{name}.txt").is_file())
        train = next(usual, _TRAIN_LISTS[-1])
    both = [tuple(voc_items(root, name, labels)) for name in (train, val or "val")]
    for items in both:
        if items[0].label is None:
            raise DataError(f"{items[0].where}: no label maps in {root}; name their folder")
    return Images(root.resolve(), *both)
