"""ImageSegData: reads batches of images and label maps."""

from __future__ import annotations

from typing import cast

from caffe_port.data.image_seg import ImageSegReader, LabelType, Transform
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.streams import Streams
from caffe_port.errors import LayerError
from caffe_port.layers._registry import register_layer
from caffe_port.layers._source import SourceLayer
from caffe_port.spec.ops.image_seg_data import ImageSegData as Options


@register_layer("ImageSegData")
class ImageSegData(SourceLayer):
    """Tops: data (N, C, H, W) less the mean, label (N, 1, H, W), data_dim (N, 1, 1, 2).

    Source: DeepLab v2 image_seg_data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> Streams:
        op = self.spec.options(Options)
        transforms = op.mirror or (self.in_training and op.crop[0] > 0)
        return Streams(
            thread, self.spec.dialect, transforms=transforms, orders=op.shuffle,
            skips=op.rand_skip > 0,
        )  # fmt: skip

    def open(self) -> ImageSegReader:
        op = self.spec.options(Options)
        if op.mean_file:
            message = f"mean_file '{op.mean_file}': only mean_value is read here"
            raise LayerError(self.spec.name, self.spec.type, message)
        transform = Transform(
            mean_values=op.mean_values, scale=op.scale, crop_height=op.crop[0],
            crop_width=op.crop[1], mirror=op.mirror, scale_factors=op.scale_factors,
        )  # fmt: skip
        return ImageSegReader(
            op.source, op.root_folder, batch_size=op.batch_size,
            label_type=cast("LabelType", op.label_type), has_label=op.has_label,
            ignore_label=op.ignore_label, transform=transform, phase=self.spec.phase,
            new_height=op.new_height, new_width=op.new_width, is_color=op.is_color,
            shuffle=op.shuffle,
            rng=self.streams.transformer, shuffle_rng=self.streams.order,
            skip=self.streams.skipped % op.rand_skip if op.rand_skip else 0,
        )  # fmt: skip
