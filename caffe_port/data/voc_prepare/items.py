"""One image with its mask: reading both, and everything that can be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.data.mat5_struct import read_field
from caffe_port.data.pictures import Bytes, read_grey, read_labels
from caffe_port.errors import DataError, FormatError

IGNORED = 255
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """An image and its mask.

    Args:
        id: their name.
        image: the photograph.
        mask: a palette or grey PNG, or SBD's .mat; None for a test image.
        target: the PNG that is made of it, or None where it is only checked.
        where: the list's name and line where only a list says that the files exist.
    """

    id: str
    image: Path
    mask: Path | None
    target: Path | None = None
    where: str = ""

    @property
    def source(self) -> str:
        """Whose mask it is: 'SBD' or 'VOC'; '' without a mask."""
        if self.mask is None:
            return ""
        return "SBD" if self.mask.suffix == ".mat" else "VOC"


def checked(item: Item, classes: int) -> tuple[Bytes | None, list[str]]:
    """Reads both files to their ends.

    Args:
        classes: labels 0 to classes - 1 and 255 are expected.
    Returns:
        The mask, (H, W) uint8, or None; and what is wrong, one sentence a file.
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
    """A mask of VOC's or SBD's: (H, W) uint8 class indices.

    Raises:
        DataError, FormatError: missing, broken, or of another kind.
    """
    if path.suffix != ".mat":
        return read_labels(path)
    try:
        values = read_field(path, "GTcls", "Segmentation")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if values.ndim != 2 or not values.size:
        raise FormatError(
            f"GTcls.Segmentation has shape {values.shape}; expected (H, W)", path=path
        )
    with np.errstate(invalid="ignore"):  # what is no label is found by the comparison
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
