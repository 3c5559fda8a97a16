"""Classifier: a net that classifies images.

Source: BVLC/caffe python/caffe/classifier.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.live.mode import set_mode_cpu, set_mode_gpu
from caffe_port.live.net import TEST, Net
from caffe_port.live.transformer import Transformer, resize_image
from caffe_port.pycaffe.io import oversample as ten_crops

_Array = npt.NDArray[Any]


def make_transformer(
    net: Net,
    mean: _Array | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> Transformer:
    """Makes a transformer from (H, W, K) images to the net's first input."""
    name = net.inputs[0]
    transformer = Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


class Classifier(Net):
    """A net in TEST that resizes, crops and classifies images.

    Args:
        model_file, pretrained_file: prototxt and weights.
        image_dims: (height, width) to which images are resized before cropping; the net's input
            size by default.
        mean, input_scale, raw_scale, channel_swap: see ``caffe.io.Transformer``.
        gpu: sets the mode, as in DeepLab v1's pycaffe; None does not.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: _Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        *,
        gpu: bool | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        if gpu is not None:
            (set_mode_gpu if gpu else set_mode_cpu)()
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs: Sequence[_Array], oversample: bool = True) -> _Array:
        """Computes the scores of images.

        Args:
            inputs: N of (H, W, K).
            oversample: whether the scores of ten crops are averaged; otherwise the centre is used.
        Returns:
            (N, C), the net's first output.
        """
        scaled = np.array([resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = ten_crops(scaled, self.crop_dims)
        else:
            size = np.array(self.crop_dims)
            top, left = (np.array(self.image_dims) / 2.0 - size / 2.0).astype(int)
            crops = scaled[:, top : top + size[0], left : left + size[1]]
        name = self.inputs[0]
        data = np.array([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(**{name: data})[self.outputs[0]]
        if oversample:
            scores = scores.reshape(len(scores) // 10, 10, -1).mean(1)
        return scores
