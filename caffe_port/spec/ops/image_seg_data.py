"""ImageSegData: images, label maps and their real sizes, read from a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op

_Image = caffe_pb2.ImageDataParameter


@register_op
@dataclass(frozen=True)
class ImageSegData(Op):
    """Options of ImageSegData. Source: DeepLab v2 image_seg_data_layer.cpp, data_transformer.cpp.

    Attributes:
        source, root_folder, batch_size, shuffle: which pictures, how many at a time.
        rand_skip: at the start, fewer items than this are passed over; 0 for none.
        label_type: 'NONE', 'IMAGE' (the list's second word is a number) or 'PIXEL' (an image).
        has_label: false where nobody reads the labels (DeepLab v1's TEST nets).
        new_height, new_width, is_color, ignore_label: how pictures are read.
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
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        expect((o.new_height > 0) == (o.new_width > 0), "new_height and new_width go together")
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
        height, width = self.crop if self.crop[0] else self._first_picture()
        n = self.batch_size
        channels = 3 if self.is_color else 1
        return [(n, channels, height, width), (n, 1, height, width), (n, 1, 1, 2)]

    def _first_picture(self) -> tuple[int, int]:
        """Without a crop the shape is that of the first picture, as upstream has it."""
        if self.new_height:
            return (self.new_height, self.new_width)
        from caffe_port.data.list_file import list_words
        from caffe_port.data.listed import named
        from caffe_port.data.pictures import picture_size
        from caffe_port.errors import DataError

        try:
            number, (name, *_) = next(list_words(self.source))
            with named(f"{self.source}: line {number}"):
                # joined as text, as upstream does: names in the lists start with a slash
                return picture_size(self.root_folder + name)
        except DataError as error:
            message = f"the shape follows from the first image: {error}; set crop_size"
            raise ValueError(message) from error
