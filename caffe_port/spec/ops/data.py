"""Options and shapes: batches read from databases, lists of images and windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op

# SSD's additions to transform_param
OF_ANNOTATED = (
    "resize_param", "noise_param", "emit_constraint", "crop_h", "crop_w", "distort_param",
    "expand_param",
)  # fmt: skip


@dataclass(frozen=True)
class Transform:
    """The transformation of items: (pixel - mean) * scale, cropped and mirrored.

    Attributes:
        scale: the factor after the mean is subtracted.
        mirror: flips half of the items.
        crop_size: side of a square crop, 0 for none.
        mean_file: a mean image, or ''.
        mean_values: one per channel, one for all, or none.
        color: how encoded records are read: True in colour, False in grey, None as they are.
    Source: BVLC/caffe data_transformer.cpp.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_values: tuple[float, ...] = ()
    color: bool | None = None

    @classmethod
    def parse(cls, o: caffe_pb2.TransformationParameter) -> Transform:
        expect(
            not (o.mean_file and len(o.mean_value)), "mean_file and mean_value exclude one another"
        )
        expect(
            not (o.force_color and o.force_gray), "force_color and force_gray exclude one another"
        )
        expect(
            not (o.scale_factors or o.crop_height or o.crop_width),
            "scale_factors, crop_height and crop_width are of ImageSegData only",
        )
        others = [name for name in OF_ANNOTATED if o.HasField(name)]
        expect(not others, f"{' and '.join(others)}: built in for AnnotatedData only")
        color = True if o.force_color else False if o.force_gray else None
        return cls(o.scale, o.mirror, o.crop_size, o.mean_file, tuple(o.mean_value), color)

    def draws(self, phase: str) -> bool:
        """Whether Caffe's transformer draws random numbers: it mirrors, or crops in TRAIN."""
        return self.mirror or (phase == "TRAIN" and self.crop_size > 0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an item of this size after the transformation."""
        crop = self.crop_size
        expect(crop <= min(height, width), f"crop_size {crop} of an item of {width}x{height}")
        return (crop, crop) if crop else (height, width)


@register_op
@dataclass(frozen=True)
class Data(Op):
    """Data: batches from a database. Source: BVLC/caffe data_layer.cpp.

    Attributes:
        source: a database.
        backend: 'LMDB' or 'LEVELDB'.
        batch_size: items per batch.
        rand_skip: fewer records than this are skipped at the start (DeepLab v1 only; later Caffes
            ignore it).
        transform: what is done to each item.
    """

    type = "Data"
    remark = "A LevelDB, backend's default, needs the package plyvel."
    bottoms = (0, 0)
    tops = (1, 2)
    kind = "source"

    source: str
    batch_size: int
    rand_skip: int
    transform: Transform
    backend: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Data:
        o = layer.data_param
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        backend = caffe_pb2.DataParameter.DB.Name(o.backend)
        transform = Transform.parse(layer.transform_param)
        return cls(o.source, o.batch_size, o.rand_skip, transform, backend)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        from caffe_port.data.database import first_datum
        from caffe_port.errors import DataError, UsageError

        try:
            first = first_datum(self.source, self.transform.color, self.backend)
        except (DataError, UsageError) as error:
            message = f"the shape follows from the first record: {error}"
            raise ValueError(message) from error
        n, (channels, height, width) = self.batch_size, first.values.shape
        return [(n, channels, *self.transform.size(height, width)), (n,)]


def new_size(
    o: caffe_pb2.ImageDataParameter | caffe_pb2.DenseImageDataParameter,
) -> tuple[int, int] | None:
    """The size to which every image of a list is resized, or None; checks the batch's size too."""
    expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
    expect((o.new_height > 0) == (o.new_width > 0), "new_height and new_width go together")
    return (o.new_height, o.new_width) if o.new_height else None


@register_op
@dataclass(frozen=True)
class ImageData(Op):
    """ImageData: images and class numbers, read from a list.

    Source: BVLC/caffe image_data_layer.cpp.

    Attributes:
        source, root_folder, batch_size, shuffle: the list of images, and how they are taken.
        rand_skip: fewer items than this are skipped at the start; 0 for none.
        size: height and width to which every image is resized, or None.
        is_color: three channels or one.
        transform: what is done to each item.
    """

    type = "ImageData"
    bottoms = (0, 0)
    tops = (2, 2)
    kind = "source"

    source: str
    root_folder: str
    batch_size: int
    shuffle: bool
    rand_skip: int
    size: tuple[int, int] | None
    is_color: bool
    transform: Transform

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ImageData:
        o = layer.image_data_param
        size = new_size(o)
        expect(o.max_labels == 1, f"max_labels is {o.max_labels}; one label per image is read here")
        transform = Transform.parse(layer.transform_param)
        return cls(
            o.source, o.root_folder, o.batch_size, o.shuffle, o.rand_skip, size, o.is_color,
            transform,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        channels = 3 if self.is_color else 1
        crop = self.transform.crop_size
        height, width = (crop, crop) if crop else self.size or self._first_image_size()
        return [(self.batch_size, channels, height, width), (self.batch_size,)]

    def _first_image_size(self) -> tuple[int, int]:
        """Without a crop and a size, the shape is that of the first image."""
        from caffe_port.data.image import read_labelled
        from caffe_port.data.images import stored_size
        from caffe_port.data.list_file import named
        from caffe_port.errors import DataError

        try:
            line = read_labelled(self.source)[0]
            with named(line.where):
                return stored_size(self.root_folder + line.image)
        except DataError as error:
            message = f"the shape follows from the first image: {error}"
            raise ValueError(message) from error


_Image = caffe_pb2.ImageDataParameter


class Listed(Protocol):
    """Options that name a list of images."""

    @property
    def source(self) -> str: ...

    @property
    def root_folder(self) -> str: ...


@register_op
@dataclass(frozen=True)
class ImageSegData(Op):
    """ImageSegData: images, label maps and their real sizes, read from a list.

    Source: DeepLab v2 image_seg_data_layer.cpp, data_transformer.cpp.

    Attributes:
        source, root_folder, batch_size, shuffle: the list of images, and how they are taken.
        rand_skip: fewer items than this are skipped at the start; 0 for none.
        label_type: 'NONE', 'IMAGE' (the list's second word is a number) or 'PIXEL' (an image).
        has_label: false if no layer reads the labels (DeepLab v1's TEST nets).
        new_height, new_width, is_color, ignore_label: how images are read.
        scale, mirror, mean_file, mean_values, scale_factors: the transformation.
        crop: (height, width), or (0, 0) for none.
    """

    type = "ImageSegData"
    remark = "Palette PNGs are read as class indices; upstream reads their grey levels."
    bottoms = (0, 0)
    tops = (3, 3)
    auto_top = True
    kind = "source"

    source: str
    root_folder: str
    batch_size: int
    shuffle: bool
    rand_skip: int
    label_type: str
    has_label: bool
    new_height: int
    new_width: int
    is_color: bool
    ignore_label: int
    scale: float
    mirror: bool
    mean_file: str
    mean_values: tuple[float, ...]
    scale_factors: tuple[float, ...]
    crop: tuple[int, int]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ImageSegData:
        o, t = layer.image_data_param, layer.transform_param
        new_size(o)
        expect((t.crop_height > 0) == (t.crop_width > 0), "crop_height and crop_width go together")
        expect(not (t.crop_size and t.crop_height), "crop_size and crop_height exclude one another")
        expect(
            not (t.mean_file and len(t.mean_value)), "mean_file and mean_value exclude one another"
        )
        kind = _Image.LabelType.Name(o.label_type)
        crop = (t.crop_height, t.crop_width) if t.crop_height else (t.crop_size, t.crop_size)
        return cls(
            o.source, o.root_folder, o.batch_size, o.shuffle, o.rand_skip, kind, o.has_label,
            o.new_height, o.new_width, o.is_color, o.ignore_label, t.scale, t.mirror, t.mean_file,
            tuple(t.mean_value), tuple(t.scale_factors), crop,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        given = (self.new_height, self.new_width) if self.new_height else None
        height, width = self.crop if self.crop[0] else given or first_size(self, "set crop_size")
        n = self.batch_size
        channels = 3 if self.is_color else 1
        return [(n, channels, height, width), (n, 1, height, width), (n, 1, 1, 2)]


def first_size(op: Listed, advice: str) -> tuple[int, int]:
    """Without a crop and a size the shape is that of the first image, as in Caffe."""
    from caffe_port.data.images import stored_size
    from caffe_port.data.list_file import list_words, named
    from caffe_port.errors import DataError

    try:
        number, (name, *_) = next(list_words(op.source))
        with named(f"{op.source}: line {number}"):
            # joined as text, as upstream does: names in the lists start with a slash
            return stored_size(op.root_folder + name)
    except DataError as error:
        message = f"the shape follows from the first image: {error}; {advice}"
        raise ValueError(message) from error


@register_op
@dataclass(frozen=True)
class WindowData(Op):
    """WindowData: windows of images, for detection. Source: BVLC/caffe window_data_layer.cpp.

    Attributes:
        source, root_folder, batch_size: which windows, how many at a time.
        fg_threshold, bg_threshold: overlap from which a window is an object, and below which it
            is background; those between are left out.
        fg_fraction: the share of objects in a batch.
        context_pad: pixels of surroundings on each side of the crop.
        square: whether a window is widened to a square before it is warped.
        scale: multiplies the pixels; that of transform_param has no effect, as upstream.
        transform: crop_size is the size windows are warped to.
    """

    type = "WindowData"
    remark = (
        "No recording: checked by hand and against OpenCV's resize. As upstream, scale is "
        "window_data_param's and transform_param's has no effect."
    )
    bottoms = (0, 0)
    tops = (2, 2)
    kind = "source"

    source: str
    root_folder: str
    batch_size: int
    fg_threshold: float
    bg_threshold: float
    fg_fraction: float
    context_pad: int
    square: bool
    scale: float
    transform: Transform

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> WindowData:
        o, transform = layer.window_data_param, Transform.parse(layer.transform_param)
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        crop = transform.crop_size
        expect(crop > 0, "crop_size is 0; it is the size windows are warped to")
        expect(
            2 * o.context_pad < crop, f"context_pad {o.context_pad} leaves no pixel of crop {crop}"
        )
        expect(0 <= o.fg_fraction <= 1, f"fg_fraction is {o.fg_fraction}; expected 0 to 1")
        expect(
            o.crop_mode in ("warp", "square"), f"crop_mode '{o.crop_mode}'; expected warp or square"
        )
        return cls(
            o.source, o.root_folder, o.batch_size, o.fg_threshold, o.bg_threshold, o.fg_fraction,
            o.context_pad, o.crop_mode == "square", o.scale, transform,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        crop = self.transform.crop_size
        return [(self.batch_size, 3, crop, crop), (self.batch_size,)]
