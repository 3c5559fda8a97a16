"""The items of a folder that is in DeepLab's layout already, by all of its lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffe_port.data.list_file import list_words
from caffe_port.data.pictures import PathLike
from caffe_port.data.voc import IMAGE_SUFFIXES, LABEL_FOLDERS
from caffe_port.data.voc_prepare.items import Item
from caffe_port.errors import DataError, UsageError

_FOLDERS = LABEL_FOLDERS[::-1]  # what was prepared comes before what it was made of


def layout_items(
    root: PathLike, lists: Sequence[PathLike] = ()
) -> tuple[list[Item], dict[str, int]]:
    """What the lists of a folder name; files need not exist.

    Args:
        root: has JPEGImages and SegmentationClassAug or SegmentationClass.
        lists: files of ids or "image label" lines; by default all in root/list, or else in
            root/ImageSets/Segmentation. Lists of ids beside those of pairs (``val_id.txt``) and
            masks of a list named test are passed over.
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
    # an image that a list without labels names is checked with its mask where one is listed
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
    if Path(first).suffix in IMAGE_SUFFIXES:
        id, image = Path(first).stem, folder / first
    elif Path(first).name != first or first in (".", ".."):
        raise DataError(f"{where}: '{words[0]}' is neither an id nor an image file")
    else:
        id = first
        tried = [folder / "JPEGImages" / (id + suffix) for suffix in IMAGE_SUFFIXES]
        image = next((path for path in tried if os.path.isfile(path)), tried[0])
    if unlabelled:
        return Item(id, image, None, where=where)
    masks = [folder / name / f"{id}.png" for name in _FOLDERS]
    usual = next((path for path in masks if path.parent.is_dir()), masks[0])
    return Item(
        id, image, next((path for path in masks if os.path.isfile(path)), usual), where=where
    )
