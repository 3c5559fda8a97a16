"""ImageData: images and class numbers, read from a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._transform import Transform


@register_op
@dataclass(frozen=True)
class ImageData(Op):
    """Options of ImageData. Source: BVLC/caffe image_data_layer.cpp.

    Attributes:
        source, root_folder, batch_size, shuffle: which pictures, how many at a time.
        rand_skip: at the start, fewer items than this are passed over; 0 for none.
        size: height and width every picture is brought to, or None.
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
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        expect((o.new_height > 0) == (o.new_width > 0), "new_height and new_width go together")
        expect(o.max_labels == 1, f"max_labels is {o.max_labels}; one label per image is read here")
        size = (o.new_height, o.new_width) if o.new_height else None
        transform = Transform.parse(layer.transform_param)
        return cls(
            o.source, o.root_folder, o.batch_size, o.shuffle, o.rand_skip, size, o.is_color,
            transform,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        channels = 3 if self.is_color else 1
        crop = self.transform.crop_size
        height, width = (crop, crop) if crop else self.size or self._first_picture()
        return [(self.batch_size, channels, height, width), (self.batch_size,)]

    def _first_picture(self) -> tuple[int, int]:
        """Without a crop and a size, the shape is that of the first picture."""
        from caffe_port.data.image import read_labelled
        from caffe_port.data.listed import named
        from caffe_port.data.pictures import picture_size
        from caffe_port.errors import DataError

        try:
            line = read_labelled(self.source)[0]
            with named(line.where):
                return picture_size(self.root_folder + line.image)
        except DataError as error:
            message = f"the shape follows from the first image: {error}"
            raise ValueError(message) from error
