"""ImageData: reads batches of images and class numbers."""

from __future__ import annotations

from caffe_port.data.image import ImageReader
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.streams import Streams
from caffe_port.layers._registry import register_layer
from caffe_port.layers._source import SourceLayer
from caffe_port.spec.ops.image_data import ImageData as Options


@register_layer("ImageData")
class ImageData(SourceLayer):
    """Tops: data (N, C, H, W) and label (N,). Source: BVLC/caffe image_data_layer.cpp."""

    def seeds(self, thread: CaffeRandom | None) -> Streams:
        op = self.spec.options(Options)
        return Streams(
            thread, self.spec.dialect, transforms=op.transform.draws(self.spec.phase),
            orders=op.shuffle, skips=op.rand_skip > 0,
        )  # fmt: skip

    def open(self) -> ImageReader:
        op = self.spec.options(Options)
        return ImageReader(
            op.source, op.root_folder, op.batch_size, self.transformer(op.transform),
            size=op.size, is_color=op.is_color, order=self.streams.order if op.shuffle else None,
            skip=self.streams.skipped % op.rand_skip if op.rand_skip else 0,
        )  # fmt: skip
