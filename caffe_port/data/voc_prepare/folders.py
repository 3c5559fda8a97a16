"""The two downloads, PASCAL VOC 2012 and SBD, and DeepLab's lists of their images.

Source: DeepLab v2, voc12/list; B. Hariharan et al., Semantic Contours from Inverse Detectors,
ICCV 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffe_port.data.images import PathLike
from caffe_port.data.list_file import list_words
from caffe_port.errors import DataError, UsageError

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
