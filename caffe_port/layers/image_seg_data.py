"""ImageSegData: reads batches of images and label maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.image_seg_data import ImageSegData as Options

if TYPE_CHECKING:
    from caffe_port.data.image_seg import ImageSegReader, LabelType


@register_layer("ImageSegData")
class ImageSegData(Layer):
    """Tops: data (N, C, H, W) less the mean, label (N, 1, H, W), data_dim (N, 1, 1, 2).

    The list is opened at the first forward pass, so that a net whose data the caller gives needs
    no list. Source: DeepLab v2 image_seg_data_layer.cpp.
    """

    reader: ImageSegReader | None = None

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self.reader is None:
            self.reader = self._open()
        return tuple(torch.from_numpy(blob) for blob in self.reader.next_batch())

    def _open(self) -> ImageSegReader:
        from caffe_port.data.image_seg import ImageSegReader, Transform

        op = self.spec.op
        assert isinstance(op, Options)
        if op.mean_file:
            message = f"mean_file '{op.mean_file}': only mean_value is read here"
            raise LayerError(self.spec.name, self.spec.type, message)
        transform = Transform(
            mean_values=op.mean_values, scale=op.scale, crop_height=op.crop[0],
            crop_width=op.crop[1], mirror=op.mirror, scale_factors=op.scale_factors,
        )  # fmt: skip
        return ImageSegReader(
            op.source, op.root_folder, batch_size=op.batch_size,
            label_type=cast("LabelType", op.label_type), ignore_label=op.ignore_label,
            transform=transform, phase=self.spec.phase, new_height=op.new_height,
            new_width=op.new_width, is_color=op.is_color, shuffle=op.shuffle,
        )  # fmt: skip
