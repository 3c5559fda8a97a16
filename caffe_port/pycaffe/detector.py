"""Detector: a net that classifies windows of images.

Source: BVLC/caffe python/caffe/detector.py; Girshick et al., R-CNN, arXiv:1311.2524.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError
from caffe_port.live.mode import set_mode_cpu, set_mode_gpu
from caffe_port.live.net import TEST, Net
from caffe_port.live.transformer import resize_image
from caffe_port.pycaffe.classifier import make_transformer
from caffe_port.pycaffe.io import load_image

_Array = npt.NDArray[Any]
_Path = str | os.PathLike[str]


class Detector(Net):
    """A net in TEST that classifies windows, each warped to the net's input.

    Args:
        model_file, pretrained_file: prototxt and weights.
        mean, input_scale, raw_scale, channel_swap: see ``caffe.io.Transformer``.
        context_pad: pixels on each side of the net's input for the surroundings of the window.
        gpu: sets the mode, as in DeepLab v1's pycaffe; None does not.
    """

    def __init__(
        self,
        model_file: _Path,
        pretrained_file: _Path,
        mean: _Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
        *,
        gpu: bool | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        if gpu is not None:
            (set_mode_gpu if gpu else set_mode_cpu)()
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(
        self, images_windows: Iterable[tuple[_Path, Iterable[Sequence[float]]]]
    ) -> list[dict[str, Any]]:
        """Computes the scores of windows.

        Args:
            images_windows: (file, windows); a window is (ymin, xmin, ymax, xmax).
        Returns:
            Per window its 'window', 'prediction' and 'filename'.
        """
        name = self.inputs[0]
        found: list[dict[str, Any]] = []
        data = []
        for filename, windows in images_windows:
            image = load_image(filename)
            for window in windows:
                data.append(self.transformer.preprocess(name, self.crop(image, window)))
                found.append({"window": window, "filename": filename})
        if not data:
            return []
        scores = self.forward_all(**{name: np.array(data)})[self.outputs[0]]
        for entry, score in zip(found, scores, strict=True):
            entry["prediction"] = score
        return found

    def detect_selective_search(self, image_fnames: Iterable[_Path]) -> list[dict[str, Any]]:
        """Not available: the proposals were made by MATLAB code outside of Caffe.

        Raises:
            UsageError: always, with an alternative.
        """
        raise UsageError(
            "detect_selective_search needs the MATLAB program selective_search_ijcv_with_python, "
            "which Caffe never contained; make the windows another way (OpenCV's contrib has "
            "selective search) and call detect_windows"
        )

    def configure_crop(self, context_pad: int | None) -> None:
        """Sets the size of crops and, with context, the mean for pixels outside of the image."""
        name, transformer = self.inputs[0], self.transformer
        back = np.argsort(transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].shape[1:])[back]
        self.context_pad = context_pad
        self.crop_mean = np.zeros(self.crop_dims, dtype=np.float32)
        if context_pad and name in transformer.mean:
            mean = transformer.mean[name].transpose(back)
            if name in transformer.channel_swap:
                mean = mean[:, :, np.argsort(transformer.channel_swap[name])]
            self.crop_mean = (mean / transformer.raw_scale.get(name, 1)).astype(np.float32)

    def crop(self, im: _Array, window: Sequence[float]) -> _Array:
        """Crops a window from an image, with its surroundings if the detector uses context.

        Args:
            im: (H, W, K).
            window: (ymin, xmin, ymax, xmax).
        """
        if not self.context_pad:
            top, left, bottom, right = (int(side) for side in window)
            return im[top:bottom, left:right]
        side = self.blobs[self.inputs[0]].width  # assuming a square input
        box = _widened(np.asarray(window, float), side / (side - 2.0 * self.context_pad))
        scale = side / (box[2:] - box[:2] + 1)
        offset = np.round(np.maximum(0, -box[:2]) * scale).astype(int)
        inside = np.clip(box, 0, [*im.shape[:2], *im.shape[:2]])
        size = np.round((inside[2:] - inside[:2] + 1) * scale).astype(int)
        size = np.minimum(size, side - offset)
        top, left, bottom, right = inside.astype(int)
        crop: _Array = np.ones(self.crop_dims, dtype=np.float32) * self.crop_mean
        rows, columns = (slice(o, o + n) for o, n in zip(offset, size, strict=True))
        crop[rows, columns] = resize_image(im[top:bottom, left:right], size)
        return crop


def _widened(window: _Array, factor: float) -> _Array:
    half = (window[2:] - window[:2] + 1) / 2
    centre = window[:2] + half
    return np.asarray(np.round(np.concatenate([centre - factor * half, centre + factor * half])))
