"""The batches that DeepLab's ImageSegData layer makes of a list of images and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from caffe_port.data.decoding import resize_linear, resize_nearest
from caffe_port.data.image import read_image
from caffe_port.data.images import Bytes, PathLike, read_labels, size_advice
from caffe_port.data.list_file import ListDataset, list_words, named, warn_of_missing_labels
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import is_own
from caffe_port.errors import DataError, UsageError

Floats = npt.NDArray[np.float32]
LabelType = Literal["PIXEL", "IMAGE", "NONE"]


@dataclass(frozen=True)
class Transform:
    """The transform_param of an ImageSegData layer.

    Args:
        mean_values: one per channel in blue, green, red, or one for all, or none.
        scale: multiplies the image after the mean is subtracted.
        crop_size: side of a square crop, 0 for none; or crop_height and crop_width.
        mirror: flips half of the items.
        scale_factors: one is drawn for every item, which is resized by it first.
    Raises:
        UsageError: a combination Caffe refuses.
    """

    mean_values: tuple[float, ...] = ()
    scale: float = 1.0
    crop_size: int = 0
    crop_height: int = 0
    crop_width: int = 0
    mirror: bool = False
    scale_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rectangle = (self.crop_height, self.crop_width)
        if min(self.crop_size, *rectangle) < 0:
            raise UsageError("a crop cannot be negative")
        if (self.crop_size and any(rectangle)) or (any(rectangle) and not all(rectangle)):
            raise UsageError("give crop_size, or both crop_height and crop_width")
        if len(self.mean_values) not in (0, 1, 3):
            raise UsageError(f"one mean_value or three are needed, got {len(self.mean_values)}")
        if any(factor <= 0 for factor in self.scale_factors):
            raise UsageError(f"scale_factors must be positive, got {self.scale_factors}")

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the crop, or None."""
        height, width = self.crop_height or self.crop_size, self.crop_width or self.crop_size
        return (height, width) if height else None

    def means(self, channels: int) -> Floats:
        """The mean of each channel, zeros where there is none."""
        values = np.array(self.mean_values or (0.0,), np.float32)
        return np.resize(values, channels) if len(values) == 1 else values[:channels]


class ImageSegReader:
    """Batches of an ImageSegData layer, in Caffe's order and with its arithmetic.

    Label images are read as class indices (see ``images.read_labels``), and with new_height
    they are resized to the nearest label, while Caffe blends neighbouring labels into others.

    Args:
        list_path: lines "image label", or "image" alone; empty ones are skipped.
        root_folder: prefixed to the names unchanged, so one of the two needs a slash.
        batch_size: items per batch.
        label_type: PIXEL reads the second word as an image, IMAGE takes it as the number for
            every pixel (0 where there is no second word, as DeepLab does, with a warning), NONE
            does not read it and fills in ``ignore_label``.
        has_label: False, as in DeepLab v1's TEST nets, if nothing reads the labels: with IMAGE
            the second word may then be anything; a name counts as 0, as in DeepLab.
        ignore_label: label of the padding, 0 to 255.
        transform: mean, scale, crop and so on.
        phase: TRAIN crops at random, TEST in the middle.
        new_height, new_width: both 0, or the size every image is resized to first.
        is_color: three channels (blue, green, red) or one.
        shuffle: reorders the list at the start of every round.
        rng: draws flips, scale factors and crops; by default seeded by the operating system.
        shuffle_rng: draws the order; by default seeded by the operating system.
        skip: items skipped at the start.
    Attributes:
        lines: the list, with the place in it.
        own: the items of each batch that are read, the others being zeros; None is all.
    Raises:
        UsageError: options that do not go together.
        DataError: the list or an image is missing or malformed.
    Source: DeepLab v2 image_seg_data_layer.cpp and data_transformer.cpp, TransformImgAndSeg.
    """

    def __init__(
        self,
        list_path: PathLike,
        root_folder: str = "",
        *,
        batch_size: int = 1,
        label_type: LabelType = "IMAGE",
        has_label: bool = True,
        ignore_label: int = 255,
        transform: Transform | None = None,
        phase: str = "TEST",
        new_height: int = 0,
        new_width: int = 0,
        is_color: bool = True,
        shuffle: bool = False,
        rng: CaffeRandom | None = None,
        shuffle_rng: CaffeRandom | None = None,
        skip: int = 0,
    ) -> None:
        if batch_size < 1 or min(new_height, new_width) < 0:
            raise UsageError("batch_size must be positive, new_height and new_width not negative")
        if bool(new_height) != bool(new_width):
            raise UsageError("new_height and new_width must be set together")
        if not 0 <= ignore_label <= 255:
            raise UsageError(f"ignore_label must be 0 to 255, got {ignore_label}")
        self.root_folder, self.batch_size, self.label_type = root_folder, batch_size, label_type
        self.ignore_label, self.phase, self.is_color = ignore_label, phase, is_color
        self.transform = transform or Transform()
        self._new_size = (new_height, new_width) if new_height else None
        self._rng, order = rng or CaffeRandom(), shuffle_rng or CaffeRandom()
        self.own: range | None = None
        lines = _read_lines(list_path, label_type, has_label)
        self.lines = ListDataset(list_path, lines, order if shuffle else None, skip)
        first = self.transform.crop or self.lines.read(self._read)[1][0].shape[:2]
        self._size: tuple[int, int] = (first[0], first[1])

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of data, label and data_dim; without a crop, the first image sets the size."""
        n, channels = self.batch_size, 3 if self.is_color else 1
        return (n, channels, *self._size), (n, 1, *self._size), (n, 1, 1, 2)

    def next_batch(self) -> tuple[Floats, Floats, Floats]:
        """The next batch; the list starts again at its end, also within a batch.

        Returns:
            data (N, C, H, W), label (N, 1, H, W) and data_dim (N, 1, 1, 2), float32; data_dim
            is the height and width of the part of each item that is not padding.
        Raises:
            DataError: an image is missing or malformed, or of another size than its label or,
                without a crop, than the first image.
        """
        data, label, dim = (np.zeros(shape, np.float32) for shape in self.shapes())
        self.places = []
        for item in range(self.batch_size):
            if is_own(item, self.own) or self.lines.skips_bad_images:
                line, (image, truth) = self.lines.read(self._read)
                dim[item, 0, 0] = np.minimum(self._size, image.shape[:2])
                data[item], label[item, 0] = self._transformed(line, image, truth)
            else:
                line = self.lines.current
                self._skip_draws()
            self.places.append(f"{line.where}: {line.label or line.image}")
            self.lines.advance()
        return data, label, dim

    def _skip_draws(self) -> None:
        """Takes the draws of an item, whose number does not depend on its size."""
        options = self.transform
        crops = options.crop is not None and self.phase == "TRAIN"
        for _ in range(options.mirror + bool(options.scale_factors) + 2 * crops):
            self._rng.draw()

    def _read(self, line: _Line) -> tuple[Bytes, Bytes]:
        image = self._image(line)
        return image, self._label(line, image)

    def _image(self, line: _Line) -> Bytes:
        path = self.root_folder + line.image
        with named(line.where):
            return read_image(path, self._new_size, self.is_color)

    def _label(self, line: _Line, image: Bytes) -> Bytes:
        if self.label_type != "PIXEL":
            value = self.ignore_label if self.label_type == "NONE" else int(line.label)
            return np.full(image.shape[:2], value, np.uint8)
        with named(line.where):
            label = read_labels(self.root_folder + line.label)
        if self._new_size:
            label = resize_nearest(label, *self._new_size)
        if label.shape != image.shape[:2]:
            raise DataError(
                f"{line.where}: image {line.image} is {_size(image)} but its label {line.label} "
                f"is {_size(label)}; they must have one size"
                f"{size_advice(self.root_folder + line.image, label.shape)}"
            )
        return label

    def _transformed(self, line: _Line, image: Bytes, label: Bytes) -> tuple[Floats, Floats]:
        """Mirror, scale factor, padding, crop: drawn in this order, as Caffe draws them."""
        options = self.transform
        mirrored = options.mirror and self._rng.rand(2) == 1
        if options.scale_factors:
            drawn = self._rng.rand(len(options.scale_factors))
            image, label = _rescaled(line, image, label, options.scale_factors[drawn])
        mean = options.means(image.shape[2])
        pixels, truth = image.astype(np.float32), label.astype(np.float32)
        if options.crop is not None:
            pixels, truth = self._cropped(pixels, truth, mean, options.crop)
        elif label.shape != self._size:
            raise DataError(
                f"{line.where}: image {line.image} is {_size(label)}, the first one is "
                f"{self._size[1]}x{self._size[0]}; without a crop all must have one size"
            )
        pixels = (pixels - mean) * np.float32(options.scale)
        if mirrored:
            pixels, truth = pixels[:, ::-1], truth[:, ::-1]
        return pixels.transpose(2, 0, 1), truth

    def _cropped(
        self, pixels: Floats, truth: Floats, mean: Floats, crop: tuple[int, int]
    ) -> tuple[Floats, Floats]:
        height, width = (max(own, cropped) for own, cropped in zip(truth.shape, crop, strict=True))
        padded = np.empty((height, width, pixels.shape[2]), np.float32)
        padded[:] = mean
        padded[: truth.shape[0], : truth.shape[1]] = pixels
        labels = np.full((height, width), self.ignore_label, np.float32)
        labels[: truth.shape[0], : truth.shape[1]] = truth
        free = (height - crop[0], width - crop[1])
        if self.phase == "TRAIN":
            y, x = self._rng.rand(free[0] + 1), self._rng.rand(free[1] + 1)
        else:
            y, x = free[0] // 2, free[1] // 2
        window = (slice(y, y + crop[0]), slice(x, x + crop[1]))
        return padded[window], labels[window]


@dataclass(frozen=True)
class _Line:
    """One line of the list: its place for errors, its number, and the names on it."""

    where: str
    number: int
    image: str
    label: str


def _read_lines(path: PathLike, label_type: LabelType, has_label: bool) -> list[_Line]:
    lines, unlabelled = [], []
    for number, words in list_words(path):
        where = f"{path}: line {number}"
        label = words[1] if len(words) > 1 and label_type != "NONE" else ""
        if label_type == "PIXEL" and not label:
            raise DataError(
                f"{where}: expected 'image label', found '{words[0]}' alone; a list without labels "
                "needs label_type: NONE"
            )
        if label_type == "IMAGE":
            if not label:
                unlabelled.append(number)
            elif has_label:
                _expect_class(where, label)
            label = str(_as_class(label))
        lines.append(_Line(where, number, words[0], label))
    if has_label:
        advice = (
            "label_type IMAGE takes 0 for them, as DeepLab does. label_type: NONE fills in "
            "ignore_label; has_label: false declares that nothing reads the labels"
        )
        warn_of_missing_labels(path, unlabelled, len(lines), advice)
    return lines


def _expect_class(where: str, label: str) -> None:
    if not (label.isascii() and label.isdigit() and int(label) < 256):
        raise DataError(
            f"{where}: label_type IMAGE needs a label from 0 to 255, found '{label}'; label images "
            "need label_type: PIXEL, labels that nothing reads label_type: NONE or has_label: false"
        )


def _as_class(label: str) -> int:
    """The number that C's atoi finds at the start of a word, limited to a byte, as upstream."""
    found = re.match(r"[+-]?[0-9]+", label)
    return min(max(int(found[0]), 0), 255) if found else 0


def _rescaled(line: _Line, image: Bytes, label: Bytes, factor: float) -> tuple[Bytes, Bytes]:
    if factor == 1:
        return image, label
    # Caffe multiplies in float32 and drops the fraction.
    height, width = (int(np.float32(size) * np.float32(factor)) for size in label.shape)
    if min(height, width) < 1:
        raise DataError(f"{line.where}: {line.image} has no pixel left at scale {factor}")
    return resize_linear(image, height, width), resize_nearest(label, height, width)


def _size(array: Bytes) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
