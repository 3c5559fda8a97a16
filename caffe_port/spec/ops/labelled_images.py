"""Options and shapes: images with a label image each, or with boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops.data import OF_ANNOTATED, Transform, first_size, new_size


@dataclass(frozen=True)
class LabelledImages(Op):
    """Images with a label image each, read from a list: the layers of SegNet, ENet and HED.

    Attributes:
        source, root_folder, batch_size, shuffle: the list of images, and how they are taken.
        rand_skip: fewer items than this are skipped at the start; 0 for none.
        size: height and width to which every image is resized, or None.
        is_color: three channels or one.
        crop: (height, width) of a random crop in both phases, or None.
        mirror: flips half of the items.
        transform: what is done to the image: scale and mean.

    Class attributes:
        moves_first: flipped, then cropped, then transformed; else in the opposite order.
    """

    bottoms = (0, 0)
    tops = (2, 2)
    kind = "source"
    moves_first: ClassVar[bool] = False

    source: str
    root_folder: str
    batch_size: int
    shuffle: bool
    rand_skip: int
    size: tuple[int, int] | None
    is_color: bool
    crop: tuple[int, int] | None
    mirror: bool
    transform: Transform

    def image_size(self) -> tuple[int, int]:
        """Height and width of the images of a batch; without options, those of the first image."""
        return self.crop or self.size or first_size(self, "set new_height and new_width")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        n, size = self.batch_size, self.image_size()
        return [(n, 3 if self.is_color else 1, *size), (n, 1, *size)]


@register_op
@dataclass(frozen=True)
class DenseImageData(LabelledImages):
    """DenseImageData of SegNet and ENet: images and label maps.

    Source: alexgkendall/caffe-segnet dense_image_data_layer.cpp; TimoSaemann/caffe-enet for
        label_divide_factor.

    Attributes:
        divide: the label map's size is that of the resized image, divided by this.
    """

    type = "DenseImageData"
    moves_first = True
    remark = (
        "Palette PNGs are read as class indices; upstream reads their grey levels. Crops and flips "
        "have a generator of their own; upstream's thread shares the solver's, in no fixed order."
    )

    divide: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DenseImageData:
        o, size = layer.dense_image_data_param, new_size(layer.dense_image_data_param)
        expect((o.crop_height > 0) == (o.crop_width > 0), "crop_height and crop_width go together")
        transform = Transform.parse(layer.transform_param)
        expect(
            not (transform.mirror or transform.crop_size),
            "mirror or crop_size in transform_param, which would move images and not their labels; "
            "write mirror, or crop_height and crop_width, in dense_image_data_param",
        )
        divide, crop = o.label_divide_factor, (o.crop_height, o.crop_width)
        expect(divide > 0, "label_divide_factor is 0; expected 1 or more")
        expect(divide == 1 or (size is not None and not any(crop)), "label_divide_factor needs "
               "new_height and new_width, and no crop")  # fmt: skip
        expect(size is None or min(size) >= divide, f"label_divide_factor {divide} of {size}")
        return cls(
            o.source, o.root_folder, o.batch_size, o.shuffle, o.rand_skip, size, o.is_color,
            crop if any(crop) else None, o.mirror, transform, divide,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        data, (n, _, height, width) = super().top_shapes(bottoms)
        return [data, (n, 1, height // self.divide, width // self.divide)]


@register_op
@dataclass(frozen=True)
class ImageLabelmapData(LabelledImages):
    """ImageLabelmapData of HED, RCF and DSS: images and maps of edges or salient objects.

    Source: s9xie/hed and yun-liu/RCF image_labelmap_data_layer.cpp; Andrew-Qibin/caffe_dss for
        normalize.

    Attributes:
        normalize: None where it is not given (HED, RCF); False keeps labels of 0 to 255.
    """

    type = "ImageLabelmapData"
    remark = (
        "Labels are grey levels: of 128 and more 1, else 0; in the dialect rcf level / 255, and 1 "
        "above a half."
    )

    normalize: bool | None

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ImageLabelmapData:
        o, t = layer.image_data_param, Transform.parse(layer.transform_param)
        size, crop = new_size(o), (t.crop_size, t.crop_size) if t.crop_size else None
        return cls(
            o.source, o.root_folder, o.batch_size, o.shuffle, o.rand_skip, size, o.is_color, crop,
            t.mirror, t, o.normalize if o.HasField("normalize") else None,
        )  # fmt: skip


@register_op
@dataclass(frozen=True)
class AnnotatedData(Op):
    """AnnotatedData of SSD: images and their boxes, read from a database of AnnotatedDatum.

    Source: weiliu89/caffe (branch ssd) annotated_data_layer.cpp, DataLayerSetUp.

    Attributes:
        source, backend, batch_size: as for Data.
        transform: mean, scale, and how encoded records are read.
        size: (height, width) to which encoded images are resized, or None.
        nearest: whether by the nearest pixel; else bilinearly.
        recompressed: whether encoded images go through JPEG once more, as upstream's batch_sampler
            does even if it takes the whole image.
        boxes: whether records without a type have boxes too (anno_type).
        unsupported: what else the options ask for; such a layer only takes its data as inputs.
    """

    type = "AnnotatedData"
    remark = (
        "Without random changes, as SSD's TEST layers: mean, scale, resize_param { WARP } and "
        "batch_sampler { } for the whole image. What distorts, expands, mirrors, crops or samples "
        "is refused when data is read. A LevelDB needs the package plyvel."
    )
    bottoms = (0, 0)
    tops = (1, 2)
    kind = "source"

    source: str
    backend: str
    batch_size: int
    transform: Transform
    size: tuple[int, int] | None
    nearest: bool
    recompressed: bool
    boxes: bool
    unsupported: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AnnotatedData:
        data, own, t = layer.data_param, layer.annotated_data_param, layer.transform_param
        plain = caffe_pb2.TransformationParameter()
        plain.CopyFrom(t)
        for name in (*OF_ANNOTATED, "mirror", "crop_size"):
            plain.ClearField(name)
        taken = [s for s in own.batch_sampler if _draws(s)]
        r = t.resize_param
        return cls(
            data.source,
            caffe_pb2.DataParameter.DB.Name(data.backend),
            data.batch_size,
            Transform.parse(plain),
            (r.height, r.width) if t.HasField("resize_param") else None,
            list(r.interp_mode) == [caffe_pb2.ResizeParameter.NEAREST],
            bool(taken),
            own.HasField("anno_type"),
            ", ".join([*_changes(t), *("batch_sampler" for s in taken if not _whole(s))][:3]),
        )

    def check(self) -> None:
        """Refuses options with which no data can be read. Raises ValueError."""
        expect(self.batch_size > 0, "batch_size is 0; expected 1 or more")
        expect(
            not self.unsupported,
            f"{self.unsupported}: changes of images that are not built in; give the net its data, "
            "or read it with the transform_param of SSD's TEST layers",
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The label has a row per box of the first image; the actual number depends on the data."""
        from caffe_port.data.labelled_images import first_annotated
        from caffe_port.errors import DataError, UsageError

        self.check()
        try:
            shape, rows = first_annotated(self)
        except (DataError, UsageError) as error:
            message = f"the shape follows from the first record: {error}"
            raise ValueError(message) from error
        label = (self.batch_size, 1, 1, 1) if rows is None else (1, 1, max(rows, 1), 8)
        return [(self.batch_size, *shape), label]


def _draws(sampler: caffe_pb2.BatchSampler) -> bool:
    """Whether the sampler takes any part of an image."""
    none = sampler.max_trials == 0 or (sampler.HasField("max_sample") and not sampler.max_sample)
    return sampler.use_original_image and not none


def _whole(sampler: caffe_pb2.BatchSampler) -> bool:
    """Whether it always takes the whole image."""
    o, constraint = sampler.sampler, sampler.sample_constraint
    sides = {o.min_scale, o.max_scale, o.min_aspect_ratio, o.max_aspect_ratio}
    return sides == {1.0} and not constraint.ListFields()


def _changes(t: caffe_pb2.TransformationParameter) -> list[str]:
    """The options of transform_param that are not built in."""
    found = [name for name in ("mirror", "crop_size", "crop_h", "crop_w") if getattr(t, name)]
    changing = ("noise_param", "emit_constraint", "distort_param", "expand_param")
    found += [name for name in changing if t.HasField(name)]
    r, modes = t.resize_param, caffe_pb2.ResizeParameter
    if t.HasField("resize_param"):
        plain = r.resize_mode == modes.WARP and r.prob == 1 and r.height > 0 < r.width
        known = list(r.interp_mode) in ([], [modes.LINEAR], [modes.NEAREST])
        found += [] if plain and known else ["resize_param"]
    return found
