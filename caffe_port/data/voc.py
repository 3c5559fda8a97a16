"""VOC lists and folders: the image and the label map of each id.

Supported are a VOC folder (``VOCdevkit/VOC2012``, with JPEGImages, SegmentationClass and
ImageSets inside) or plain folders of images and labels, and lists of ids ("2007_000033"), of
images ("/JPEGImages/2007_000033.jpg") or of "image label" pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from caffe_port.data.images import PathLike
from caffe_port.data.list_file import list_words
from caffe_port.errors import DataError
from caffe_port.stalls import Waiting

# in any case, such as .Jpg
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif",
)  # fmt: skip
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".gif", ".webp", ".mat")
LABEL_FOLDERS = ("SegmentationClass", "SegmentationClassAug")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def is_image_name(name: str) -> bool:
    """Whether a name ends as an image's does."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def file_named(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    """The file of a folder with this name and one of these suffixes, in any case, or None.

    Args:
        suffixes: in lower case; the first that there is counts.
    """
    for suffix in suffixes:
        for spelled in (suffix, suffix.upper()):
            if _is_file(folder / (stem + spelled)):
                return folder / (stem + spelled)
    try:
        known = _mixed_case(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return None
    return next((known[stem, suffix] for suffix in suffixes if (stem, suffix) in known), None)


@lru_cache(maxsize=8)
def _mixed_case(folder: Path, changed: int) -> dict[tuple[str, str], Path]:
    """A folder's files by name and lower suffix, of those whose suffix has both cases."""
    found = {}
    for path in folder.iterdir():
        if path.suffix not in (path.suffix.lower(), path.suffix.upper()) and _is_file(path):
            found[path.stem, path.suffix.lower()] = path
    return found


@dataclass(frozen=True)
class VOCItem:
    """One image of a list.

    Args:
        id: the image's name without folder and suffix, which also names its predictions.
        image: its file, which exists.
        label: its label map, which exists, or None for a test list.
        where: the list's name and line, for messages.
    """

    id: str
    image: Path
    label: Path | None
    where: str


def voc_items(
    images: PathLike,
    image_list: PathLike | None = None,
    labels: PathLike | None = None,
    *,
    with_labels: bool = True,
) -> list[VOCItem]:
    """The images of a list with their label maps.

    Args:
        images: a VOC folder, or the folder of the images themselves.
        image_list: a file, or the name of one in the VOC folder's ImageSets/Segmentation; when
            absent "val", or, of a folder without ImageSets, all images that lie in it.
        labels: folder of the label maps; by default those the list names or, of a VOC folder,
            SegmentationClass, else SegmentationClassAug. Without any of them the items have no
            labels.
        with_labels: False does not look for label maps, as for a test list.
    Raises:
        DataError: the list is malformed, names an image or label that is missing, or an id twice.
    Examples:
        >>> from caffe_port.data import voc_items
        >>> items = voc_items("examples/shapes_voc", "val")
        >>> len(items), items[0].id, items[0].label.name
        (60, 'shape_val_0000', 'shape_val_0000.png')
    """
    root = Path(images)
    if not root.is_dir():
        raise DataError(f"{images}: not a folder of images")
    label_of = _LabelFinder(root, labels) if with_labels else None
    items: dict[str, VOCItem] = {}
    for words, where in _entries(root, image_list):
        image = _find_image(root, words[0], where)
        if image.stem in items:
            raise DataError(f"{where}: {image.stem} is already on {items[image.stem].where}")
        label = label_of.find(words, image.stem, where) if label_of else None
        items[image.stem] = VOCItem(image.stem, image, label, where)
    return list(items.values())


def _entries(root: Path, image_list: PathLike | None) -> Iterator[tuple[list[str], str]]:
    """The words of each line of the list, or each image of a folder, and their place."""
    bases = [base for base in (root, root.parent) if (base / "ImageSets").is_dir()]
    if image_list is None and not bases:
        names = sorted(p.name for p in root.iterdir() if is_image_name(p.name) and _is_file(p))
        if not names:
            raise DataError(f"{root}: no image in this folder and no ImageSets; name a list")
        yield from (([name], str(root / name)) for name in names)
        return
    path = _list_path(root, image_list)
    for number, words in list_words(path):
        yield words, f"{path}: line {number}"


def _list_path(root: Path, image_list: PathLike | None) -> Path:
    name = "val" if image_list is None else os.fspath(image_list)
    if _is_file(Path(name)):
        return Path(name)
    for base in (root, root.parent):
        inside = base / "ImageSets" / "Segmentation" / f"{name}.txt"
        if _is_file(inside):
            return inside
    raise DataError(
        f"{name}: neither a list file nor the name of one in ImageSets/Segmentation of {root}"
    )


def _find_image(root: Path, word: str, where: str) -> Path:
    """The file of an entry: below the VOC folder, below the image folder, or by its id."""
    name = word.lstrip("/")
    if is_image_name(name):
        tried = [root / name, root.parent / name, root / Path(name).name]
        whole = [Path(word)] if os.path.isabs(word) else []
        found = next(filter(_is_file, [*whole, *tried]), None)
    else:
        if Path(name).name != name or name in (".", ".."):
            raise DataError(f"{where}: '{word}' is neither an id nor an image file")
        folders = (root / "JPEGImages", root)
        tried = [folder / f"{name}{IMAGE_SUFFIXES[0]}" for folder in folders]
        named = (file_named(folder, name, IMAGE_SUFFIXES) for folder in folders)
        found = next(filter(None, named), None)
    if found is None:
        raise DataError(f"{where}: image '{word[:200]}' is missing; looked for {tried[0]}")
    return found


def _is_file(path: Path) -> bool:
    """Whether there is such a file; False for a name that is too long."""
    with Waiting(path):
        return os.path.isfile(path)


class _LabelFinder:
    """Finds label maps: in a chosen folder, by the list's second words, or in VOC's folders."""

    def __init__(self, root: Path, chosen: PathLike | None) -> None:
        if chosen is not None and not Path(chosen).is_dir():
            raise DataError(f"{chosen}: not a folder of label maps")
        bases = (root, root.parent)
        usual = [base / name for base in bases for name in LABEL_FOLDERS]
        self.bases, self.chosen = bases, chosen is not None
        self.folder = (
            Path(chosen) if chosen is not None else next((f for f in usual if f.is_dir()), None)
        )

    def find(self, words: list[str], id: str, where: str) -> Path | None:
        if len(words) > 1 and not self.chosen:
            tried = [base / words[1].lstrip("/") for base in self.bases]
            tried += [Path(words[1])] if os.path.isabs(words[1]) else []
            found = next(filter(_is_file, tried), None)
        elif self.folder is not None:
            tried = [self.folder / f"{id}.png"]
            found = file_named(self.folder, id, LABEL_SUFFIXES)
        else:
            return None
        if found is None:
            raise DataError(
                f"{where}: the label map of '{id}' is missing; looked for {tried[0]} "
                "(a list without labels must be read as one)"
            )
        return found
