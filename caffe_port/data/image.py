"""The batches that an ImageData layer makes of a list of images and class numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_port.data.decoding import resize_linear
from caffe_port.data.images import Bytes, PathLike, read_bgr, read_grey
from caffe_port.data.list_file import (
    ListDataset,
    list_lines,
    named,
    warn_of_missing_labels,
    whole_number,
)
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Floats, Transformer, is_own, stacked
from caffe_port.errors import DataError


def read_image(path: PathLike, size: tuple[int, int] | None, is_color: bool) -> Bytes:
    """An image as Caffe's layers read it.

    Args:
        size: height and width it is resized to, or None.
        is_color: three channels (blue, green, red) or one.
    Returns:
        (H, W, C) uint8.
    Raises:
        DataError: missing or broken.
    Source: BVLC/caffe io.cpp, ReadImageToCVMat.
    """
    image = read_bgr(path) if is_color else read_grey(path)[:, :, None]
    return image if size is None else resize_linear(image, *size)


class ImageReader:
    """Batches of an ImageData layer.

    Args:
        source: lines "image label"; the image's name may hold spaces.
        root_folder: prefixed to the names unchanged, so one of the two needs a slash.
        batch_size: items per batch.
        transformer: applied to every item.
        size: height and width every image is resized to first, or None.
        is_color: three channels (blue, green, red) or one.
        order: shuffles the list at the start of every round; None keeps its order.
        skip: items skipped at the start.
    Attributes:
        lines: the list, with the place in it.
        own: the items of each batch that are read, the others being zeros; None is all. Where no
            option sets the size, all are read.
    Raises:
        DataError: the list is missing or malformed.
        UsageError: ``skip`` skips the whole list.
    Source: BVLC/caffe image_data_layer.cpp.
    """

    def __init__(
        self,
        source: PathLike,
        root_folder: str,
        batch_size: int,
        transformer: Transformer,
        *,
        size: tuple[int, int] | None = None,
        is_color: bool = True,
        order: CaffeRandom | None = None,
        skip: int = 0,
    ) -> None:
        self.root_folder, self.batch_size, self.transformer = root_folder, batch_size, transformer
        self.size, self.is_color = size, is_color
        self.lines = ListDataset(source, read_labelled(source), order, skip)
        self.own: range | None = None

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next batch; the list starts again at its end, also within a batch.

        Returns:
            data (N, C, H, W) and label (N,), float32. Without a crop and a size, the first
            image of each batch sets the batch's size.
        Raises:
            DataError: an image is missing or malformed, or of another size than the first.
        """
        items: list[Floats | None] = []
        self.places: list[str] = []
        labels, first = np.zeros(self.batch_size, np.float32), None
        for i in range(self.batch_size):
            item, line = self._item(i)
            first = item if first is None else first
            if item is not None and first is not None and item.shape != first.shape:
                raise DataError(
                    f"{line.where}: {line.image} is {item.shape}, the first one of its batch is "
                    f"{first.shape}; set crop_size, or new_height and new_width"
                )
            self.places.append(f"{line.where}: {line.image}")
            items.append(item)
            labels[i] = line.label
            self.lines.advance()
        return stacked(items), labels

    def _item(self, i: int) -> tuple[Floats | None, Line]:
        """The next item, None where it is another process's, and its line."""
        known = (
            self.size or self.transformer.options.crop_size
        ) and not self.lines.skips_bad_images
        if known and not is_own(i, self.own):
            self.transformer.skip()
            return None, self.lines.current
        line, image = self.lines.read(self._image)
        return self.transformer(image.transpose(2, 0, 1), f"{line.where}: {line.image}"), line

    def _image(self, line: Line) -> Bytes:
        with named(line.where):
            return read_image(self.root_folder + line.image, self.size, self.is_color)


@dataclass(frozen=True)
class Line:
    """One line of a list: its place for errors, its number, an image's name and its class."""

    where: str
    number: int
    image: str
    label: int


def read_labelled(source: PathLike) -> list[Line]:
    """The lines of an ImageData list; a line of one word has the label 0, as in Caffe.

    Raises:
        DataError: missing, empty, not text, or a line whose last word is not a whole number.
    Warns:
        UserWarning: some lines have no label.
    """
    lines, unlabelled = [], []
    for number, text in list_lines(source):
        where = f"{source}: line {number}"
        *names, label = text.strip().rsplit(None, 1)  # spaces or a tab before the label
        image = "".join(names)
        if not names and whole_number(label) is None:
            image, label = label, "0"
            unlabelled.append(number)
        value = whole_number(label)
        if not image or value is None:
            raise DataError(f"{where}: expected 'image label', found {text.strip()[:80]!r}")
        lines.append(Line(where, number, image.strip(), value))
    warn_of_missing_labels(source, unlabelled, len(lines), "Their label is 0, as in Caffe")
    return lines
