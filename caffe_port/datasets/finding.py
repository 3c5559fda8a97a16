"""Images of a data set's split, and its label maps written in another form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.data.images import Bytes, PathLike, open_image, voc_palette, write_labels
from caffe_port.data.label_values import is_of_colours, label_values, stored_palette
from caffe_port.data.list_file import list_words
from caffe_port.data.voc import LABEL_SUFFIXES, VOCItem, file_named, is_image_name
from caffe_port.datasets.description import Dataset, dataset
from caffe_port.datasets.rules import IGNORED, LabelRules, Palette, read_stored
from caffe_port.errors import DataError, UsageError
from caffe_port.files import read_json
from caffe_port.stalls import Waiting

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class _Place:
    """An image: its root and file, and what fills the patterns."""

    root: Path
    image: Path
    id: str
    split: str
    group: str


def dataset_items(
    data: Dataset,
    root: PathLike,
    split: PathLike = "val",
    labels: PathLike | None = None,
    *,
    with_labels: bool = True,
) -> list[VOCItem]:
    """The images of a split with their label maps.

    Args:
        data: from ``dataset``.
        root: the data set's folder, or one above it.
        split: the name of a split, or a file of ids, images or "image label" pairs.
        labels: folder of the label maps, where they are not where the data set has them.
        with_labels: False looks for no label maps.
    Returns:
        In the order of the list, or by name where the split has none. ``VOCItem.id`` is the
        image's name without its suffix.
    Raises:
        DataError: there is no such split, an image or label map is missing, or an id occurs twice.
    Examples:
        >>> from caffe_port.datasets import dataset, dataset_items
        >>> dataset_items(dataset("cityscapes"), "examples", "val")
        Traceback (most recent call last):
            ...
        caffe_port.errors.DataError: examples: holds no images of split 'val' of cityscapes; ...
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"{root}: not a folder")
    if labels is not None and not Path(labels).is_dir():
        raise DataError(f"{labels}: not a folder of label maps")
    finder = _Finder(data, folder, os.fspath(split), None if labels is None else Path(labels))
    wanted = with_labels and finder.labelled
    items: dict[str, VOCItem] = {}
    with Waiting(folder):
        for place, label, where in finder.places():
            id = place.image.stem
            if id in items:
                raise DataError(f"{where}: {id} is already on {items[id].where}")
            found = (label or finder.label(place, where)) if wanted else None
            items[id] = VOCItem(id, place.image, found, where)
    return list(items.values())


def count_remark(data: Dataset, split: str, images: int) -> str:
    """What is to be said of a split whose number of images is not the published one, or ""."""
    part = data.splits.get(split)
    if part is None or part.images in (None, images):
        return ""
    return f"{data.name}: split {split} has {images:,} images here; {part.images:,} were published"


class _Finder:
    """Finds a split's files.

    Args:
        data, folder: the data set and where it is.
        split: a split's name or a list file.
        labels: where label maps are, or None.
    """

    def __init__(self, data: Dataset, folder: Path, split: str, labels: Path | None) -> None:
        self.data, self.labels, self.folder, self.split = data, labels, folder, split
        self.roots = [folder / name for name in data.layout.roots]
        self.file: Path | None = Path(split) if os.path.isfile(split) else None
        part = data.splits.get(split)
        self.labelled = part is None or part.labelled or labels is not None
        if self.file is None and part is None:
            self.file = self._own_list(split)
            if self.file is None:
                raise DataError(
                    f"{split}: neither a list file nor a split of {data.name}; it has "
                    f"{', '.join(data.splits) or 'none'}"
                )
        self.parts = [part.folder] if part else [s.folder for s in data.splits.values()]

    def places(self) -> Iterator[tuple[_Place, Path | None, str]]:
        """Images, their label maps where a list names them, and where they are named."""
        path = self.file or self._own_list(self.parts[0])
        if path is not None:
            yield from self._listed(path)
        elif self.data.layout.list:
            tried = [self._filled(p, self.parts[0]) for p in self.data.layout.list]
            raise self._nothing(tried)
        else:
            yield from self._all()

    def label(self, place: _Place, where: str) -> Path:
        """The label map of an image."""
        if self.labels is not None:
            for name in (place.image.stem, place.id):
                if (found := file_named(self.labels, name, LABEL_SUFFIXES)) is not None:
                    return found
            tried = [self.labels / f"{place.image.stem}.png"]
        else:
            tried = [
                place.root / self._filled(pattern, place.split, place.id, place.group)
                for pattern in self.data.layout.labels
            ]
            if (first := next(filter(os.path.isfile, tried), None)) is not None:
                return first
        looked = f"; looked for {tried[0]}" if tried else ""
        raise DataError(f"{where}: the label map of '{place.id}' is missing{looked}")

    def _own_list(self, split: str) -> Path | None:
        names = [self._filled(pattern, split) for pattern in self.data.layout.list]
        tried = (root / name for root in self.roots for name in names)
        return next(filter(os.path.isfile, tried), None)

    def _listed(self, path: Path) -> Iterator[tuple[_Place, Path | None, str]]:
        for number, words in list_words(path):
            where = f"{path}: line {number}"
            label = self._file(words[1], where) if len(words) > 1 else None
            if is_image_name(words[0]) or "/" in words[0]:
                place = self._of_image(self._file(words[0], where))
            else:
                place = self._of_id(words[0], where)
            yield place, label, where

    def _file(self, word: str, where: str) -> Path:
        tried = [root / word.lstrip("/") for root in self.roots]
        tried += [Path(word)] if os.path.isabs(word) else []
        found = next(filter(os.path.isfile, tried), None)
        if found is None:
            raise DataError(f"{where}: '{word[:200]}' is missing; looked for {tried[0]}")
        return found

    def _of_id(self, id: str, where: str) -> _Place:
        tried = []
        for root in self.roots:
            for split in self.parts:
                for pattern in self.data.layout.images:
                    tried.append(root / self._filled(pattern, split, id, "*"))
                    found = next(self._matching(root, pattern, split, id), None)
                    if found is not None:
                        return found
        raise DataError(f"{where}: image '{id[:200]}' is missing; looked for {tried[0]}")

    def _of_image(self, image: Path) -> _Place:
        for root in self.roots:
            for split in self.parts:
                for pattern in self.data.layout.images:
                    found = _match(pattern, split, root, image)
                    if found is not None:
                        return found
        return _Place(self.roots[0], image, image.stem, self.parts[0] if self.parts else "", "")

    def _all(self) -> Iterator[tuple[_Place, Path | None, str]]:
        for root in self.roots:
            found = [
                place
                for pattern in self.data.layout.images
                for place in self._matching(root, pattern, self.parts[0], "*")
            ]
            if found:
                for place in sorted(found, key=lambda place: str(place.image)):
                    yield place, None, str(place.image)
                return
        patterns = self.data.layout.images
        raise self._nothing([self._filled(p, self.parts[0], "*", "*") for p in patterns])

    def _matching(self, root: Path, pattern: str, split: str, id: str) -> Iterator[_Place]:
        """The files of a root that fit a pattern."""
        name = self._filled(pattern, split, id, "*")
        if "*" not in name:
            if os.path.isfile(root / name):
                yield _Place(root, root / name, id, split, "")
            return
        for path in root.glob(name):
            place = _match(pattern, split, root, path)
            if place is not None and os.path.isfile(path):
                yield place if id == "*" else replace(place, id=id)

    def _filled(self, pattern: str, split: str, id: str = "", group: str = "") -> str:
        return pattern.format(split=split, id=id, group=group)

    def _nothing(self, tried: list[str]) -> DataError:
        roots = ", ".join(map(str, self.roots))
        return DataError(
            f"{self.folder}: holds no images of split '{self.split}' of {self.data.name}; looked "
            f"for {', '.join(tried)} below {roots}"
        )


def _match(pattern: str, split: str, root: Path, path: Path) -> _Place | None:
    """A file's id and group by a pattern, or None where it does not fit."""
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        return None
    parts = re.split(r"(\{\w+\})", pattern)
    known = {"{split}": re.escape(split), "{id}": "(?P<id>[^/]+)", "{group}": "(?P<group>[^/]+)"}
    found = re.fullmatch("".join(known.get(part, re.escape(part)) for part in parts), name)
    if found is None:
        return None
    groups = found.groupdict()
    return _Place(root, path, groups["id"], split, groups.get("group", ""))


def label_files(sources: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """The label maps among files and folders, each with its name below its folder."""
    for source in sources:
        if not source.is_dir():
            yield source, Path(source.name)
            continue
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in LABEL_SUFFIXES)
        for path in found:
            if path.is_file():
                yield path, path.relative_to(source)


def to_index(path: PathLike, rules: LabelRules, classes: int, palette: Palette | None) -> Bytes:
    """A label map as class indices, whatever form it has.

    Args:
        path: an image of colours, a palette or grey image, or a .mat file. A palette image whose
            colours are the palette's is converted by them, any other by its indices.
        rules: what stored indices mean.
        classes: how many there are.
        palette: what colours mean; None reads indices only.
    Returns:
        (H, W) uint8, ``IGNORED`` where a pixel does not count.
    Raises:
        DataError, FormatError: the file cannot be read, or holds a colour or label of no class.
    """
    where = os.fspath(path)
    if Path(path).suffix.lower() == ".mat":
        return rules.read(path, classes).labels
    image = open_image(path)
    if palette is not None and _is_coloured(image, palette):
        with image:
            return palette.labels(np.asarray(image.convert("RGB")), where)
    return rules.applied(label_values(where, image), classes, where).labels


def _is_coloured(image: Image.Image, palette: Palette) -> bool:
    """Whether the colours of an image are to be read, not its indices."""
    if image.mode != "P":
        return is_of_colours(image)
    used, stored = np.unique(np.asarray(image)), stored_palette(image)
    return int(used[-1]) < len(stored) and palette.knows(stored[used])


def _colours(values: object, path: PathLike) -> Bytes:
    try:
        colours = np.array(values)
        if colours.ndim != 2 or colours.shape[1] != 3 or not 1 <= len(colours) <= IGNORED:
            raise ValueError(f"shape {colours.shape}")
        if colours.dtype.kind not in "iu" or colours.min() < 0 or colours.max() > 255:
            raise ValueError("a value other than 0 to 255")
    except ValueError as error:
        message = f"expected [[red, green, blue], ...] of 0 to 255, one for each class ({error})"
        raise DataError(f"{path}: {message}") from error
    return colours.astype(np.uint8)


def to_server(path: PathLike, data: Dataset, target: PathLike) -> None:
    """Writes a predicted label map as the data set's evaluation server takes it.

    Args:
        path: a label map of class indices.
        data: its data set.
        target: the PNG to write.
    Raises:
        UsageError: the data set has no known server, or it takes labels above 255.
        DataError: the file cannot be read, or holds a label that is not a class.
    """
    if not data.server:
        raise UsageError(f"{data.name}: no evaluation server is known")
    labels = read_stored(path, colours=data.colours[: len(data.classes)])
    if labels.max(initial=0) >= len(data.classes):
        raise DataError(
            f"{path}: label {labels.max()}; expected 0 to {len(data.classes) - 1}, the classes of "
            f"{data.name}"
        )
    stored = np.array(data.rules.stored(), np.uint8)
    write_labels(target, stored[labels], palette=data.server == "palette")


def palette_named(name: str | None, classes: int | None = None) -> Palette:
    """A palette by the name of a data set, "voc", or a JSON file of colours.

    Args:
        name: None means "voc".
        classes: how many of VOC's colours; 21 by default.
    Raises:
        UsageError, DataError: no such data set; the file cannot be read.
    """
    if name is None or name.lower() == "voc":
        return Palette(voc_palette()[: classes or 21])
    if name.lower().endswith(".json"):
        values = read_json(name)
        if not isinstance(values, dict):
            return Palette(_colours(values, name))
    data = dataset(name)
    return Palette(data.colours[: len(data.classes)], data.void_colours)
