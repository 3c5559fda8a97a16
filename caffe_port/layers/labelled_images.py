"""Modules: images with a label image each, or with boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from caffe_port.data.decoding import resize_linear, resize_nearest
from caffe_port.data.images import read_grey, read_labels
from caffe_port.data.labelled_images import AnnotatedReader, LabelledReader
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Floats, RandomStreams
from caffe_port.layers._registry import named, register_layer
from caffe_port.layers.data import SourceLayer
from caffe_port.spec.ops import labelled_images as ops


class _LabelledImages(SourceLayer):
    """Tops: data (N, C, H, W) and label (N, 1, H', W')."""

    draws_as = ""  # the dialect in whose order the layer's set-up draws

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        op = self.spec.options(ops.LabelledImages)
        return RandomStreams(
            thread, self.draws_as or self.spec.dialect, transforms=op.mirror or op.crop is not None,
            orders=op.shuffle, skips=op.rand_skip > 0,
        )  # fmt: skip

    def read_label(self, path: str) -> Floats:
        """One label image, at the size that the top has before cropping."""
        raise TypeError(f"{type(self).__name__} defines no read_label")

    def open(self) -> LabelledReader:
        op = self.spec.options(ops.LabelledImages)
        plain = replace(op.transform, mirror=False, crop_size=0)
        order = self.streams.order if op.shuffle else None
        skip = self.streams.skipped % op.rand_skip if op.rand_skip else 0
        return LabelledReader(
            op, self.read_label, self.transformer(plain), self.streams.transformer, order, skip
        )


@register_layer("DenseImageData")
class DenseImageData(_LabelledImages):
    """Source: alexgkendall/caffe-segnet dense_image_data_layer.cpp."""

    draws_as = "deeplab1"  # of the same age: no thread of its own

    def read_label(self, path: str) -> Floats:
        op = self.spec.options(ops.DenseImageData)
        label = read_labels(path)
        if op.size is not None:
            label = resize_nearest(label, op.size[0] // op.divide, op.size[1] // op.divide)
        return label.astype(np.float32)


@register_layer("ImageLabelmapData")
class ImageLabelmapData(_LabelledImages):
    """Source: s9xie/hed and yun-liu/RCF image_labelmap_data_layer.cpp, data_transformer.cpp."""

    def read_label(self, path: str) -> Floats:
        op = self.spec.options(ops.ImageLabelmapData)
        level = read_grey(path)
        if op.size is not None:
            level = resize_linear(level, *op.size)
        if op.normalize is False:
            return level.astype(np.float32)
        if op.normalize is None and self.spec.dialect == "rcf":
            share = level.astype(np.float32) / np.float32(255)
            return np.where(share > 0.5, np.float32(1), share)
        return (level > 127).astype(np.float32)  # OpenCV rounds level / 255


@register_layer("AnnotatedData")
class AnnotatedData(SourceLayer):
    """Tops: data (N, C, H, W) and label (1, 1, boxes, 8), or (N, 1, 1, 1) where there are no boxes.

    Source: weiliu89/caffe (branch ssd) annotated_data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        return RandomStreams(thread, "deeplab2", transforms=False, reads_apart=True)  # of its age

    def open(self) -> AnnotatedReader:
        op = self.spec.options(ops.AnnotatedData)
        with named(self.spec):
            op.check()
        return AnnotatedReader(op, self.transformer(op.transform))
