"""The folders of a prepared VOC data set, and where the original files are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes, PathLike, read_grey, read_labels
from caffe_port.data.list_file import list_words
from caffe_port.data.mat5 import read_field
from caffe_port.data.voc import IMAGE_SUFFIXES, LABEL_FOLDERS, file_named, is_image_name
from caffe_port.errors import DataError, FormatError, UsageError
from caffe_port.files import reading

# The two downloads, PASCAL VOC 2012 and SBD, and DeepLab's lists of their images.
#
# Source: DeepLab v2, voc12/list; B. Hariharan et al., Semantic Contours from Inverse Detectors,
# ICCV 2011.

# images in the lists that DeepLab published
PUBLISHED = {
    "train": 1464, "train_aug": 10582, "trainval": 2913, "trainval_aug": 12031, "val": 1449,
    "test": 1456,
}  # fmt: skip
SBD_PUBLISHED = {"train": 8498, "val": 2857}


@dataclass(frozen=True)
class VOC:
    """VOC2012's folder.

    Args:
        root: has JPEGImages, SegmentationClass and ImageSets/Segmentation.
        train, val, trainval: ids of the lists; ``test`` is empty where there is no such list.
    """

    root: Path
    train: tuple[str, ...]
    val: tuple[str, ...]
    trainval: tuple[str, ...]
    test: tuple[str, ...] = ()

    def image(self, id: str) -> Path:
        """The path of an image."""
        return self.root / "JPEGImages" / f"{id}.jpg"

    def mask(self, id: str) -> Path:
        """The path of its palette mask."""
        return self.root / "SegmentationClass" / f"{id}.png"


@dataclass(frozen=True)
class SBD:
    """The folder ``dataset`` of SBD's benchmark_RELEASE.

    Args:
        root: has cls, train.txt and val.txt.
        train, val: ids of the lists, which are not VOC's splits.
    """

    root: Path
    train: tuple[str, ...]
    val: tuple[str, ...]

    def mask(self, id: str) -> Path:
        """The path of an image's .mat file."""
        return self.root / "cls" / f"{id}.mat"


@dataclass
class Lists:
    """The lists to be written, sorted as DeepLab's are.

    Attributes:
        ids: list name -> ids.
        notes: differences from the published data.
    """

    ids: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_voc(path: PathLike) -> VOC:
    """The VOC folder at, or just below, ``path``.

    Raises:
        UsageError: there is none.
        DataError: a list is malformed.
    """
    root = _at_or_below(path, "VOCdevkit/VOC2012", ("ImageSets/Segmentation/train.txt",))
    if root is None:
        raise UsageError(
            f"{path}: not VOC2012's folder; expected ImageSets/Segmentation/train.txt in it "
            "(unpack VOCtrainval_11-May-2012.tar and name VOCdevkit/VOC2012)"
        )
    folder = root / "ImageSets" / "Segmentation"
    train, val = read_ids(folder / "train.txt"), read_ids(folder / "val.txt")
    both, test = folder / "trainval.txt", folder / "test.txt"
    trainval = read_ids(both) if both.is_file() else tuple(sorted({*train, *val}))
    return VOC(root, train, val, trainval, read_ids(test) if test.is_file() else ())


def find_sbd(path: PathLike) -> SBD:
    """SBD's folder at, or just below, ``path``.

    Raises:
        UsageError: there is none.
        DataError: a list is malformed.
    """
    root = _at_or_below(path, "benchmark_RELEASE/dataset", ("cls", "train.txt"))
    if root is None:
        raise UsageError(
            f"{path}: not SBD's folder; expected cls, train.txt and val.txt in it "
            "(unpack benchmark.tgz and name benchmark_RELEASE/dataset)"
        )
    return SBD(root, read_ids(root / "train.txt"), read_ids(root / "val.txt"))


def _at_or_below(path: PathLike, usual: str, inside: Sequence[str]) -> Path | None:
    """The folder with these files: the named one, or the usual one below it."""
    here = Path(path)
    tried = (here, here / Path(usual).name, here / usual)
    return next((at for at in tried if all((at / name).exists() for name in inside)), None)


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids of a list, in its order.

    Raises:
        DataError: missing, empty, not text, or a line that is not one id, or an id twice.
    """
    found: dict[str, int] = {}
    for number, words in list_words(path):
        id = words[0]
        if len(words) != 1 or Path(id).name != id or id in (".", ".."):
            raise DataError(f"{path}: line {number}: expected one id, found {' '.join(words)!r}")
        if id in found:
            raise DataError(f"{path}: line {number}: {id} is already on line {found[id]}")
        found[id] = number
    return tuple(found)


def make_lists(voc: VOC, sbd: SBD | None) -> Lists:
    """DeepLab's lists: train_aug is all of SBD and VOC's train, without VOC's val."""
    train, val, trainval = set(voc.train), set(voc.val), set(voc.trainval)
    ids = {"train": train, "val": val, "trainval": trainval}
    notes = []
    if both := train & val:
        notes.append(f"VOC's train and val share {len(both)} images, {min(both)} among them")
    if trainval != train | val:
        apart = sorted(trainval ^ (train | val))
        notes.append(f"VOC's trainval is not its train and val: {len(apart)} images differ, "
                     f"{apart[0]} among them")  # fmt: skip
    if sbd is not None:
        ids["train_aug"] = (train | {*sbd.train, *sbd.val}) - val
        ids["trainval_aug"] = ids["train_aug"] | val
        for name, published in SBD_PUBLISHED.items():
            if (count := len(getattr(sbd, name))) != published:
                notes.append(f"SBD's {name}.txt: {count:,} images, {published:,} published")
    if voc.test:
        ids["test"] = set(voc.test)
    notes += count_notes({name: len(found) for name, found in ids.items()})
    return Lists({name: sorted(found) for name, found in sorted(ids.items())}, notes)


def count_notes(counts: dict[str, int]) -> list[str]:
    """One sentence for each list whose length is not the published one."""
    return [
        f"list {name}: {counts[name]:,} images, {published:,} published"
        for name, published in PUBLISHED.items()
        if name in counts and counts[name] != published
    ]


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
