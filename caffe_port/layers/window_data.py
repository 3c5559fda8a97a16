"""WindowData: reads batches of windows of images."""

from __future__ import annotations

from caffe_port.data.rng import CaffeRandom
from caffe_port.data.streams import Streams
from caffe_port.data.window import WindowReader
from caffe_port.layers._registry import register_layer
from caffe_port.layers._source import SourceLayer
from caffe_port.spec.ops.window_data import WindowData as Options


@register_layer("WindowData")
class WindowData(SourceLayer):
    """Tops: data (N, 3, crop, crop) and label (N,), background first.

    Source: BVLC/caffe window_data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> Streams:
        transforms = self.spec.options(Options).transform.draws(self.spec.phase)
        return Streams(thread, self.spec.dialect, transforms=transforms, orders=True)

    def open(self) -> WindowReader:
        op = self.spec.options(Options)
        return WindowReader(op, self.transformer(op.transform).mean, self.streams.order)
