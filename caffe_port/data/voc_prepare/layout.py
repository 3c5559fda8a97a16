"""The images and masks of a folder in DeepLab's layout, and the checks of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes, PathLike, read_grey, read_labels
from caffe_port.data.list_file import list_words
from caffe_port.data.mat5 import read_field
from caffe_port.data.voc import IMAGE_SUFFIXES, LABEL_FOLDERS, file_named, is_image_name
from caffe_port.errors import DataError, FormatError, UsageError
from caffe_port.files import reading

IGNORED = 255
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """An image and its mask.

    Args:
        id: their name.
        image: its file.
        mask: a palette or grey PNG, or SBD's .mat; None for a test image.
        target: the PNG that is written for it, or None where it is only checked.
        where: the list's name and line, where the item comes from a list.
    """

    id: str
    image: Path
    mask: Path | None
    target: Path | None = None
    where: str = ""

    @property
    def source(self) -> str:
        """The mask's origin: 'SBD' or 'VOC'; '' without a mask."""
        if self.mask is None:
            return ""
        return "SBD" if self.mask.suffix == ".mat" else "VOC"


def checked(item: Item, classes: int) -> tuple[Bytes | None, list[str]]:
    """Reads both files to their ends.

    Args:
        classes: labels 0 to classes - 1 and 255 are expected.
    Returns:
        The mask, (H, W) uint8, or None; and the faults, one sentence for each file.
    """
    wrong, size, labels = [], None, None
    try:
        size = read_grey(item.image).shape
    except DataError as error:
        wrong.append(str(error))
    if item.mask is not None:
        try:
            labels = read_mask(item.mask)
            _expect_labels(item.mask, labels, classes)
        except (DataError, FormatError) as error:
            wrong.append(str(error))
    if size is not None and labels is not None and labels.shape != size:
        sizes = [f"{width}x{height}" for height, width in (labels.shape, size)]
        wrong.append(f"{item.mask}: {sizes[0]} pixels, but its image has {sizes[1]}")
    where = f"{item.where}: " if item.where else ""
    return (None if wrong else labels), [where + sentence for sentence in wrong]


def read_mask(path: Path) -> Bytes:
    """A mask of VOC or SBD: (H, W) uint8 class indices.

    Raises:
        DataError, FormatError: missing, broken, or of another kind.
    """
    if path.suffix != ".mat":
        return read_labels(path)
    with reading(path):
        values = read_field(path, "GTcls", "Segmentation")
    if values.ndim != 2 or not values.size:
        raise FormatError(
            f"GTcls.Segmentation has shape {values.shape}; expected (H, W)", path=path
        )
    with np.errstate(invalid="ignore"):  # the comparison below finds NaN too
        labels = np.ascontiguousarray(values.astype(np.uint8))
    if not np.array_equal(labels, values):
        raise FormatError("GTcls.Segmentation holds numbers other than 0 to 255", path=path)
    return labels


def _expect_labels(path: Path, labels: Bytes, classes: int) -> None:
    wrong = (labels >= classes) & (labels != IGNORED)
    if not wrong.any():
        return
    row, column = (int(i[0]) for i in np.nonzero(wrong))
    raise DataError(
        f"{path}: label {labels[row, column]} at row {row}, column {column} and {wrong.sum():,} "
        f"such pixels in all; expected 0 to {classes - 1}, or {IGNORED}"
    )


def counted(labels: Bytes) -> Counts:
    """Pixels of each label, 256 numbers."""
    return np.bincount(labels.ravel(), minlength=256).astype(np.int64)


_FOLDERS = LABEL_FOLDERS[::-1]  # prepared masks before their sources


def layout_items(
    root: PathLike, lists: Sequence[PathLike] = ()
) -> tuple[list[Item], dict[str, int]]:
    """The items that the lists of a folder name; the files need not exist.

    Args:
        root: has JPEGImages and SegmentationClassAug or SegmentationClass.
        lists: files of ids or "image label" lines; by default all in root/list, or else in
            root/ImageSets/Segmentation. Lists of ids next to those of pairs (``val_id.txt``)
            and masks of a list named test are skipped.
    Returns:
        One item for each pair of files, and the length of each list.
    Raises:
        UsageError: there are no lists.
        DataError: a list is malformed.
    """
    folder = Path(root)
    paths = [Path(path) for path in lists] or _own_lists(folder)
    items: dict[tuple[Path, Path | None], Item] = {}
    counts: dict[str, int] = {}
    for path in paths:
        count = 0
        for number, words in list_words(path):
            item = _item(folder, words, path.stem == "test", f"{path}: line {number}")
            items.setdefault((item.image, item.mask), item)
            count += 1
        counts[path.stem] = count
    # an image of a list without labels is checked with its mask where another list names it
    with_mask = {image for image, mask in items if mask is not None}
    kept = [i for i in items.values() if i.mask is not None or i.image not in with_mask]
    return sorted(kept, key=lambda item: (item.id, str(item.mask))), counts


def _own_lists(folder: Path) -> list[Path]:
    for inside in (folder / "list", folder / "ImageSets" / "Segmentation"):
        found = sorted(inside.glob("*.txt"))
        names = {path.stem for path in found}
        own = [p for p in found if not (p.stem.endswith("_id") and p.stem[:-3] in names)]
        if own:
            return own
    raise UsageError(
        f"{folder}: no lists; expected {folder / 'list'} or {folder / 'ImageSets/Segmentation'} "
        "with .txt files in it, or name some with --list"
    )


def _item(folder: Path, words: list[str], unlabelled: bool, where: str) -> Item:
    first = words[0].lstrip("/")
    if len(words) == 2:
        return Item(Path(first).stem, folder / first, folder / words[1].lstrip("/"), where=where)
    if is_image_name(first):
        id, image = Path(first).stem, folder / first
    elif Path(first).name != first or first in (".", ".."):
        raise DataError(f"{where}: '{words[0]}' is neither an id nor an image file")
    else:
        id = first
        images = folder / "JPEGImages"
        image = file_named(images, id, IMAGE_SUFFIXES) or images / f"{id}.jpg"
    if unlabelled:
        return Item(id, image, None, where=where)
    masks = [folder / name / f"{id}.png" for name in _FOLDERS]
    usual = next((path for path in masks if path.parent.is_dir()), masks[0])
    return Item(
        id, image, next((path for path in masks if os.path.isfile(path)), usual), where=where
    )
