"""Batches of images with boxes or with a label image each."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.data.database import DatabaseReader, datum_of, open_database
from caffe_port.data.decoding import Bytes, resize_linear, resize_nearest
from caffe_port.data.image import read_image
from caffe_port.data.images import PathLike, decode_image, size_advice
from caffe_port.data.list_file import ListDataset, list_words, named
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Floats, Transformer
from caffe_port.errors import DataError

if TYPE_CHECKING:
    from caffe_port.proto import caffe_pb2
    from caffe_port.spec.ops.labelled_images import AnnotatedData, LabelledImages


_ROW = 8  # item, class, instance, xmin, ymin, xmax, ymax, difficult
_JPEG_QUALITY = 95  # OpenCV's imencode


def read_annotated(record: bytes, where: str) -> caffe_pb2.AnnotatedDatum:
    """Parses an AnnotatedDatum message.

    Raises:
        DataError: another message.
    """
    from google.protobuf.message import DecodeError

    from caffe_port.proto import caffe_pb2

    try:
        message = caffe_pb2.AnnotatedDatum.FromString(record)
    except DecodeError as error:
        raise DataError(f"{where}: not an AnnotatedDatum message: {error}") from error
    if not message.HasField("datum"):
        raise DataError(f"{where}: an AnnotatedDatum without an image")
    return message


def annotated_image(
    datum: caffe_pb2.Datum, op: AnnotatedData, where: str
) -> tuple[npt.NDArray[np.generic], tuple[int, int]]:
    """The image of a record, resized.

    Returns:
        (C, H, W) uint8 or float32, whose colours are blue, green, red; its width and height
        before, by which upstream scales boxes: as the record says, or as they were compressed.
    Raises:
        DataError: no image; one that the layer's options do not fit.
    Source: weiliu89/caffe data_transformer.cpp, CropImage and Transform; im_transforms.cpp,
        ApplyResize.
    """
    color = op.transform.color
    values = datum_of(datum, where, color).values
    if not datum.encoded:
        if op.size is not None and values.shape[1:] != op.size:
            found = f"{values.shape[2]}x{values.shape[1]}"
            raise DataError(f"{where}: {found}; resize_param resizes encoded images only")
        if op.recompressed and not datum.data:
            raise DataError(f"{where}: float_data, which batch_sampler cannot cut; leave it out")
        return values, (datum.width, datum.height)
    size = (datum.width, datum.height)
    image: Bytes = np.ascontiguousarray(values.transpose(1, 2, 0), dtype=np.uint8)
    if op.recompressed:
        image = _recompressed(image, color, where)
        size = (image.shape[1], image.shape[0])
    if op.size is not None:
        resize = resize_nearest if op.nearest else resize_linear
        image = resize(image, *op.size)
    return image.transpose(2, 0, 1), size


def _recompressed(image: Bytes, color: bool | None, where: str) -> Bytes:
    """What is left after JPEG: upstream encodes what its samplers cut out, even if it is all."""
    from PIL import Image

    if image.shape[2] not in (1, 3):
        raise DataError(f"{where}: {image.shape[2]} channels, which JPEG cannot hold; set "
                        "force_color, or leave batch_sampler out")  # fmt: skip
    stream = io.BytesIO()
    pixels = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, ::-1])
    Image.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return decode_image(stream.getvalue(), where, color)


def rows_of(
    message: caffe_pb2.AnnotatedDatum, op: AnnotatedData, item: int, old: tuple[int, int]
) -> list[Floats]:
    """A row per box that is at least partly inside the image.

    Args:
        message: the record.
        op: the layer's options.
        item: the record's place in the batch.
        old: width and height of the image before it was resized.
    Returns:
        (item, class, instance, xmin, ymin, xmax, ymax, difficult), float32, each. Coordinates are
        parts of the image, between 0 and 1.
    Source: weiliu89/caffe data_transformer.cpp, TransformAnnotation.
    """
    rows = []
    for group in message.annotation_group:
        for annotation in group.annotation:
            b = annotation.bbox
            box = np.array([b.xmin, b.ymin, b.xmax, b.ymax], np.float32)
            found = _inside(box) if op.recompressed else box
            if found is not None and op.size is not None:
                found = _resized(found, old, op.size[::-1])
            found = None if found is None else _inside(found)
            if found is not None:
                head = [item, group.group_label, annotation.instance_id]
                rows.append(np.array([*head, *found, b.difficult], np.float32))
    return rows


def _resized(box: Floats, old: tuple[int, int], new: tuple[int, int]) -> Floats:
    """In pixels of the old image, of the new one, and back, as im_transforms.cpp rounds."""
    before, after = (np.array([*size, *size], np.float32) for size in (old, new))
    at: Floats = box * before * after / before
    at[:2], at[2:] = np.maximum(at[:2], 0), np.minimum(at[2:], after[2:])
    return at / after


def _inside(box: Floats) -> Floats | None:
    """The part of a box within the image; None if there is none.

    Source: weiliu89/caffe bbox_util.cpp, ProjectBBox.
    """
    if (box[:2] >= 1).any() or (box[2:] <= 0).any():
        return None
    cut: Floats = box.clip(0, 1)
    width, height = cut[2:] - cut[:2]
    return cut if width >= 0 and height >= 0 and width * height > 0 else None


def first_annotated(op: AnnotatedData) -> tuple[tuple[int, ...], int | None]:
    """The shape of the first record's image, and how many boxes it has; None where it has a label.

    Raises:
        DataError: the database or its first record is missing or damaged.
        UsageError: plyvel is not installed.
    """
    database = open_database(op.source, op.backend)
    for key, record in database:
        where = f"{database.path}: record {key[:80]!r}"
        message = read_annotated(record, where)
        count = sum(len(group.annotation) for group in message.annotation_group)
        has_boxes = op.boxes or message.HasField("type")
        return annotated_image(message.datum, op, where)[0].shape, count if has_boxes else None
    raise DataError(f"{database.path}: no record of the database can be reached")


class AnnotatedReader(DatabaseReader):
    """Batches of an AnnotatedData layer: records in the order of their keys, again and again.

    Args:
        op: the layer's options.
        transformer: subtracts the mean from an image and scales it.
    Raises:
        DataError: the database is missing, damaged or empty.
    Source: weiliu89/caffe (branch ssd) annotated_data_layer.cpp, load_batch.
    """

    def __init__(self, op: AnnotatedData, transformer: Transformer) -> None:
        super().__init__(op.source, op.batch_size, transformer, backend=op.backend)
        self._op = op
        self._boxes = first_annotated(op)[1] is not None

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next batch.

        Returns:
            data (N, C, H, W) float32, and label: (1, 1, boxes, 8) float32, one row of -1 where the
            batch has no box; (N, 1, 1, 1) where the first record of the database has no boxes.
        Raises:
            DataError: a damaged record, one of another size than the first of its batch, or
                without what the first record of the database has.
        """
        items: list[Floats] = []
        rows: list[Floats] = []
        labels = np.zeros((self.batch_size, 1, 1, 1), np.float32)
        self.places = []
        for i, (key, record) in enumerate(itertools.islice(self._records, self.batch_size)):
            where = f"{self._database.path}: record {key[:80]!r}"
            self.places.append(where)
            message = read_annotated(record, where)
            self._check(message, where)
            image, size = annotated_image(message.datum, self._op, where)
            if self._boxes and self._op.size is not None and min(size) < 1:
                raise DataError(f"{where}: no height and width, which resizing boxes needs")
            item = self.transformer(image, where)
            if items and item.shape != items[0].shape:
                raise DataError(
                    f"{where}: {item.shape}, the first one of its batch is {items[0].shape}; "
                    "set resize_param"
                )
            items.append(item)
            labels[i] = message.datum.label
            rows += rows_of(message, self._op, i, size) if self._boxes else []
        if len(items) < self.batch_size:
            raise DataError(f"{self._database.path}: cannot be read any further after an error")
        if self._boxes:
            labels = np.stack(rows or [np.full(_ROW, -1, np.float32)])[None, None]
        return np.stack(items), labels

    def _check(self, message: caffe_pb2.AnnotatedDatum, where: str) -> None:
        if self._boxes and not (self._op.boxes or message.HasField("type")):
            raise DataError(f"{where}: no type, which the first record has; set anno_type: BBOX")
        if not self._boxes and not message.datum.HasField("label"):
            raise DataError(f"{where}: neither boxes nor a label")


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
