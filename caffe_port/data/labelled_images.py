"""Batches of images with a label image each: SegNet's, ENet's and HED's data layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.data.image import read_image
from caffe_port.data.images import Bytes, PathLike, size_advice
from caffe_port.data.list_file import ListDataset, list_words, named
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Floats, Transformer
from caffe_port.errors import DataError

if TYPE_CHECKING:
    from caffe_port.spec.ops.labelled_images import LabelledImages


@dataclass(frozen=True)
class Pair:
    """One line of a list: its place for errors, its number, an image and its label image."""

    where: str
    number: int
    image: str
    label: str


def read_pairs(source: PathLike) -> list[Pair]:
    """The lines of a list, each an image and a label image.

    Raises:
        DataError: missing, empty, not text, or a line that is not two words.
    """
    pairs = []
    for number, words in list_words(source):
        if len(words) != 2:
            raise DataError(
                f"{source}: line {number}: expected 'image label', found {' '.join(words)[:80]!r}"
            )
        pairs.append(Pair(f"{source}: line {number}", number, *words))
    return pairs


class LabelledReader:
    """Batches of a DenseImageData or ImageLabelmapData layer.

    Args:
        op: the layer's options.
        read_label: reads a label image, at its size before cropping.
        transformer: subtracts the mean from an image and scales it.
        random: draws flips and crops, in this order.
        order: shuffles the list at the start of every round; None keeps its order.
        skip: items skipped at the start.
    Attributes:
        lines: the list, with the place in it.
    Raises:
        DataError: the list is missing or malformed.
        UsageError: ``skip`` skips the whole list.
    Source: alexgkendall/caffe-segnet dense_image_data_layer.cpp, InternalThreadEntry; s9xie/hed
        image_labelmap_data_layer.cpp, load_batch.
    """

    def __init__(
        self,
        op: LabelledImages,
        read_label: Callable[[str], Floats],
        transformer: Transformer,
        random: CaffeRandom,
        order: CaffeRandom | None = None,
        skip: int = 0,
    ) -> None:
        self._op, self._read_label, self._transformer = op, read_label, transformer
        self._random = random
        self.lines = ListDataset(op.source, read_pairs(op.source), order, skip)

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next batch; the list starts again at its end, also within a batch.

        Returns:
            data (N, C, H, W) and label (N, 1, H', W'), float32. Without a crop and a size, the
            first image of each batch sets the batch's size.
        Raises:
            DataError: an image is missing or malformed, smaller than the crop, of another size
                than its label image, or than the first one of the batch.
        """
        items: list[tuple[Floats, Floats]] = []
        self.places: list[str] = []
        for _ in range(self._op.batch_size):
            line, (image, label) = self.lines.read(self._read)
            self.places.append(f"{line.where}: {line.label}")
            item = self._transformed(line, image, label)
            if items and item[0].shape != items[0][0].shape:
                raise DataError(
                    f"{line.where}: {line.image} is {item[0].shape}, the first one of its batch is "
                    f"{items[0][0].shape}; set new_height and new_width, or a crop"
                )
            items.append(item)
            self.lines.advance()
        data, label = (np.stack(parts) for parts in zip(*items, strict=True))
        return data, label[:, None]

    def _read(self, line: Pair) -> tuple[Bytes, Floats]:
        op = self._op
        with named(line.where):
            image = read_image(op.root_folder + line.image, op.size, op.is_color)
            label = self._read_label(op.root_folder + line.label)
        divide = getattr(op, "divide", 1)
        wanted = tuple(size // divide for size in image.shape[:2])
        if label.shape != wanted:
            raise DataError(
                f"{line.where}: image {line.image} has height and width {image.shape[:2]}, its "
                f"label {line.label} {label.shape}; expected {wanted}"
                f"{size_advice(op.root_folder + line.image, label.shape)}"
            )
        return image, label

    def _transformed(self, line: Pair, image: Bytes, label: Floats) -> tuple[Floats, Floats]:
        op, where = self._op, f"{line.where}: {line.image}"
        planes = image.transpose(2, 0, 1)
        height, width = label.shape if op.crop is not None else (0, 0)
        if op.crop is not None and (op.crop[0] > height or op.crop[1] > width):
            size = f"{op.crop[1]}x{op.crop[0]}"
            raise DataError(f"{where}: {width}x{height}, smaller than the crop {size}")
        mirrored = op.mirror and self._random.rand(2) == 1
        rows = columns = slice(None)
        if op.crop is not None:
            y = self._random.rand(height - op.crop[0] + 1)
            x = self._random.rand(width - op.crop[1] + 1)
            rows, columns = slice(y, y + op.crop[0]), slice(x, x + op.crop[1])
        flip = slice(None, None, -1 if mirrored else 1)
        if op.moves_first:
            planes = planes[..., flip][..., rows, columns]
            return self._transformer(planes, where), label[:, flip][rows, columns]
        data = self._transformer(planes, where)
        return data[..., rows, columns][..., flip], label[rows, columns][:, flip]
