"""One image: to the network's input, through it, and to label maps before and after the CRF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_port.data.pictures import Bytes
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.settings import Floats, Network, Refiner, Settings


@dataclass(frozen=True)
class Prediction:
    """Label maps of one image, (h, w) uint8; ``after`` is None without a refinement."""

    before: Bytes
    after: Bytes | None
    classes: int


def network_input(image_bgr: Bytes, settings: Settings) -> Floats:
    """The picture minus the mean in the upper left corner; the padding, being the mean, is 0.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
    Returns:
        (1, 3, H, W) float32 of the crop's size.
    Raises:
        DataError: the image is larger than the crop.
    """
    height, width = image_bgr.shape[:2]
    crop_height, crop_width = settings.crop
    if height > crop_height or width > crop_width:
        side = 8 * -(-(max(height, width) - 1) // 8) + 1
        raise DataError(
            f"the image is {width}x{height}, larger than the crop {crop_width}x{crop_height}; "
            f"give a crop that holds every image, such as {side}"
        )
    padded = np.zeros((1, 3, crop_height, crop_width), np.float32)
    pixels = image_bgr.astype(np.float32) - np.array(settings.mean, np.float32)
    padded[0, :, :height, :width] = pixels.transpose(2, 0, 1)
    return padded


def predict(
    image_bgr: Bytes, network: Network, refiner: Refiner | None, settings: Settings
) -> Prediction:
    """Label maps of one image: ``label_maps`` of its ``real_scores``."""
    return label_maps(real_scores(image_bgr, network, settings), image_bgr, refiner)


def real_scores(image_bgr: Bytes, network: Network, settings: Settings) -> Floats:
    """The network's scores at an image's real size.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
        network: see ``settings.NetworkMaker``.
    Returns:
        (C, h, w) float32.
    Raises:
        DataError: the image is larger than the crop.
        UsageError: the network's scores are of the wrong shape or not finite.
    """
    data = network_input(image_bgr, settings)
    scores = _checked(network(data), settings)
    height, width = image_bgr.shape[:2]
    # a copy: the network may reuse its memory for the next image
    return scores[0, :, :height, :width].copy()


def label_maps(real: Floats, image_bgr: Bytes, refiner: Refiner | None) -> Prediction:
    """Label maps of one image's scores; among equal scores the lowest class wins.

    (Caffe's SegAccuracy layer takes the highest there; its ArgMax and CRF users vary.)

    Args:
        real: (C, h, w) from ``real_scores``.
        image_bgr: (h, w, 3) uint8, blue first.
        refiner: see ``settings.RefinerMaker``; None for label maps before it alone.
    """
    before = real.argmax(axis=0).astype(np.uint8)
    after = None
    if refiner is not None:
        after = refiner(real, image_bgr).argmax(axis=0).astype(np.uint8)
    return Prediction(before, after, len(real))


def _checked(scores: Floats, settings: Settings) -> Floats:
    height, width = settings.crop
    if scores.ndim != 4 or scores.shape[0] != 1 or scores.shape[2:] != (height, width):
        raise UsageError(
            f"the score blob is {tuple(scores.shape)}, expected (1, classes, {height}, {width}): "
            "name the blob of full resolution (after the last Interp layer), and use a crop of "
            "8 k + 1 pixels, such as 513 or 321, for networks that shrink by 8"
        )
    if not 1 <= scores.shape[1] <= 255:
        raise UsageError(f"the score blob has {scores.shape[1]} classes; 1 to 255 are possible")
    if not np.isfinite(scores).all():
        raise UsageError("the scores are not finite: are these the right weights?")
    return scores
