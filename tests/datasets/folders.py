"""Small folders with the names and the stored labels of the real data sets.

The names are written down here, not taken from the descriptions that are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from caffe_port.data.images import voc_palette

SHAPE = (6, 8)
Write = Callable[[Path, np.ndarray], None]


def grey(path: Path, stored: np.ndarray) -> None:
    Image.fromarray(stored.astype(np.uint8)).save(path)


def palette(path: Path, stored: np.ndarray) -> None:
    image = Image.fromarray(stored.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())
    image.save(path)


def matlab(variable: str, dtype: str, compressed: bool = True) -> Write:
    def write(path: Path, stored: np.ndarray) -> None:
        savemat(path, {variable: stored.astype(dtype)}, do_compression=compressed)

    return write


def sbd(path: Path, stored: np.ndarray) -> None:
    record = {"Boundaries": np.zeros((20, 1)), "Segmentation": stored.astype(np.uint8)}
    savemat(path, {"GTcls": record}, do_compression=True)


@dataclass(frozen=True)
class Real:
    """A data set as it is distributed.

    Args:
        classes: how many.
        stored: a stored label for some classes: {class: stored}.
        ignored: a stored label that does not count.
        wrong: a stored label that the data set does not have.
        write: writes a label map.
        split: the split that is made.
        files: the two images and their label maps.
        lists: the text of a list file and its name, or None.
        ids: the names of the predictions.
    """

    classes: int
    stored: dict[int, int]
    ignored: int
    wrong: int
    write: Write
    split: str
    files: tuple[tuple[str, str], tuple[str, str]]
    lists: tuple[str, str] | None
    ids: tuple[str, str]


def _voc(root: str, folder: str, ids: tuple[str, str], suffix: str = ".png") -> tuple:
    return tuple((f"{root}JPEGImages/{i}.jpg", f"{root}{folder}/{i}{suffix}") for i in ids)


_VOC12, _VOC07, _VOC10 = "VOCdevkit/VOC2012/", "VOCdevkit/VOC2007/", "VOCdevkit/VOC2010/"
_IDS, _IDS07, _IDS10 = (
    ("2007_000033", "2007_000042"), ("000063", "000121"), ("2008_000003", "2008_000015"),
)  # fmt: skip
_CITY = ("frankfurt/frankfurt_000000_000294", "munster/munster_000173_000019")
_COCO10 = ("COCO_train2014_000000000349", "COCO_train2014_000000000656")
_CONTEXT = {1: 2, 20: 427, 59: 458, 11: 397}  # aeroplane, tvmonitor, wood, table

REAL = {
    "voc2012": Real(
        21, {0: 0, 1: 1, 20: 20}, 255, 21, palette, "val", _voc(_VOC12, "SegmentationClass", _IDS),
        (f"{_VOC12}ImageSets/Segmentation/val.txt", "2007_000033\n2007_000042\n"), _IDS,
    ),
    "voc2007": Real(
        21, {0: 0, 7: 7, 15: 15}, 255, 40, palette, "test",
        _voc(_VOC07, "SegmentationClass", _IDS07),
        (f"{_VOC07}ImageSets/Segmentation/test.txt", "000063\n000121\n"), _IDS07,
    ),
    "sbd": Real(
        21, {0: 0, 3: 3, 20: 20}, 255, 21, sbd, "val",
        tuple((f"benchmark_RELEASE/dataset/img/{i}.jpg", f"benchmark_RELEASE/dataset/cls/{i}.mat")
              for i in _IDS10),
        ("benchmark_RELEASE/dataset/val.txt", "2008_000003\n2008_000015\n"), _IDS10,
    ),
    "pascal_context60": Real(
        60, {0: 0, **_CONTEXT}, -1, 460, matlab("LabelMap", "uint16"), "val",
        tuple((f"{_VOC10}JPEGImages/{i}.jpg", f"trainval/{i}.mat") for i in _IDS10),
        (f"{_VOC10}ImageSets/Main/val.txt", "2008_000003\n2008_000015\n"), _IDS10,
    ),
    "pascal_context59": Real(
        59, {c - 1: s for c, s in _CONTEXT.items()}, 1, 460, matlab("LabelMap", "float64"), "val",
        tuple((f"{_VOC10}JPEGImages/{i}.jpg", f"trainval/{i}.mat") for i in _IDS10),
        (f"{_VOC10}ImageSets/Main/val.txt", "2008_000003\n2008_000015\n"), _IDS10,
    ),
    "pascal_person_part": Real(
        7, {0: 0, 1: 1, 6: 6}, 255, 7, grey, "val",
        tuple((f"{_VOC10}JPEGImages/{i}.jpg", f"pascal_person_part/pascal_person_part_gt/{i}.png")
              for i in _IDS10),
        ("pascal_person_part/pascal_person_part_trainval_list/val_id.txt",
         "2008_000003\n2008_000015\n"), _IDS10,
    ),
    "cityscapes": Real(
        19, {0: 7, 1: 8, 13: 26, 18: 33}, 3, 40, grey, "val",
        tuple((f"leftImg8bit/val/{i}_leftImg8bit.png", f"gtFine/val/{i}_gtFine_labelIds.png")
              for i in _CITY),
        None, tuple(i.split("/")[1] + "_leftImg8bit" for i in _CITY),
    ),
    "cocostuff10k": Real(
        182, {0: 1, 90: 91, 181: 182}, 0, 183, matlab("S", "uint8"), "test",
        tuple((f"images/{i}.jpg", f"annotations/{i}.mat") for i in _COCO10),
        ("imageLists/test.txt", "\n".join(_COCO10)), _COCO10,
    ),
    "cocostuff10k_171": Real(
        171, {0: 1, 11: 13, 170: 182}, 0, 12, matlab("S", "int16", False), "test",
        tuple((f"images/{i}.jpg", f"annotations/{i}.mat") for i in _COCO10),
        ("imageLists/test.txt", "\n".join(_COCO10)), _COCO10,
    ),
    "cocostuff164k": Real(
        182, {0: 0, 91: 91, 181: 181}, 255, 182, grey, "val",
        tuple((f"images/val2017/{i}.jpg", f"annotations/val2017/{i}.png")
              for i in ("000000000139", "000000000285")),
        None, ("000000000139", "000000000285"),
    ),
    "cocostuff164k_171": Real(
        171, {0: 0, 11: 12, 170: 181}, 255, 11, grey, "val",
        tuple((f"images/val2017/{i}.jpg", f"annotations/val2017/{i}.png")
              for i in ("000000000139", "000000000285")),
        None, ("000000000139", "000000000285"),
    ),
    "nyudv2_40": Real(
        40, {0: 1, 20: 21, 39: 40}, 0, 41, matlab("segmentation", "uint8"), "test",
        tuple((f"data/images/img_{i}.png", f"segmentation/img_{i}.mat") for i in ("5133", "6002")),
        ("test.txt", "5133\n6002\n"), ("img_5133", "img_6002"),
    ),
    "ade20k": Real(
        150, {0: 1, 12: 13, 149: 150}, 0, 151, grey, "val",
        tuple((f"ADEChallengeData2016/images/validation/ADE_val_0000000{i}.jpg",
               f"ADEChallengeData2016/annotations/validation/ADE_val_0000000{i}.png")
              for i in (1, 2)),
        None, ("ADE_val_00000001", "ADE_val_00000002"),
    ),
}  # fmt: skip


def truths(real: Real) -> list[np.ndarray]:
    """Two label maps as classes: halves of two classes, the first row ignored where that exists."""
    first, second, *rest = sorted(real.stored)
    maps = [np.full(SHAPE, first), np.full(SHAPE, second)]
    maps[0][:, 4:] = second
    maps[1][:, 6:] = (rest or [first])[-1]
    return maps


def make(root: Path, name: str) -> list[np.ndarray]:
    """Makes the folder; returns the classes, 255 where a pixel does not count."""
    real = REAL[name]
    maps = truths(real)
    for (image, label), classes in zip(real.files, maps, strict=True):
        for path in (root / image, root / label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(root / image)
        stored = np.vectorize(real.stored.__getitem__)(classes)
        if real.ignored >= 0:
            stored[0], classes[0] = real.ignored, 255
        real.write(root / label, stored)
    if real.lists:
        path, text = real.lists
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return maps


def predict(folder: Path, real: Real, maps: list[np.ndarray]) -> None:
    """Writes predictions as grey PNGs; an ignored pixel is predicted as class 0."""
    folder.mkdir(exist_ok=True)
    for id, classes in zip(real.ids, maps, strict=True):
        grey(folder / f"{id}.png", np.where(classes == 255, 0, classes))
