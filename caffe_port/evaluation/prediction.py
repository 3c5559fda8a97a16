"""One image: to the network's input, through it, and to label maps before and after the CRF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_port.data.pictures import Bytes
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.settings import Floats, Network, Refiner, Settings

Size = tuple[int, int]


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


def classified(data: Floats, network: Network, settings: Settings, size: Size) -> Floats:
    """The network's scores of one image, as small as ``enlarged`` allows.

    Args:
        data: from ``network_input``.
        size: height and width of the picture.
    Returns:
        (C, h', w') float32: what the network enlarges later, or scores of the picture's size.
    Raises:
        UsageError: the network's scores are of the wrong shape or not finite.
    """
    scores = network.classify(data)
    if network.enlarge is None:
        _check_size(scores, settings)
    if scores.ndim != 4 or scores.shape[0] != 1 or not 1 <= scores.shape[1] <= 255:
        raise UsageError(
            f"the score blob is {tuple(scores.shape)}, expected (1, classes, height, width) of "
            "1 to 255 classes"
        )
    if not np.isfinite(scores).all():
        raise UsageError("the scores are not finite: are these the right weights?")
    # a copy: the network may reuse its memory for the next image
    return (scores[0] if network.enlarge else scores[0, :, : size[0], : size[1]]).copy()


def enlarged(scores: Floats, network: Network, settings: Settings, size: Size) -> Floats:
    """Scores at the picture's size.

    Args:
        scores: from ``classified``.
        size: height and width of the picture.
    Returns:
        (C, h, w) float32.
    Raises:
        UsageError: enlarged, the scores are not of the crop's size.
    """
    if network.enlarge is None:
        return scores
    whole = network.enlarge(scores[None])
    _check_size(whole, settings)
    return np.ascontiguousarray(whole[0, :, : size[0], : size[1]])


def label_maps(real: Floats, image_bgr: Bytes, refiner: Refiner | None) -> Prediction:
    """Label maps of one image's scores; among equal scores the lowest class wins.

    (Caffe's SegAccuracy layer takes the highest there; its ArgMax and CRF users vary.)

    Args:
        real: (C, h, w) from ``enlarged``.
        image_bgr: (h, w, 3) uint8, blue first.
        refiner: see ``settings.RefinerMaker``; None for label maps before it alone.
    """
    before = best_labels(real)
    after = None if refiner is None else refiner(real, image_bgr)
    return Prediction(before, after, len(real))


def best_labels(scores: Floats) -> Bytes:
    """The label of the highest score of each pixel, the lowest among equals.

    What ``argmax(0)`` gives, in a fifth of its time: whole rows are compared, label by label.

    Args:
        scores: (C, h, w) finite.
    Returns:
        (h, w).
    """
    best, labels = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
    for label in range(1, len(scores)):
        np.copyto(labels, np.uint8(label), where=scores[label] > best)
        np.maximum(best, scores[label], out=best)
    return labels


def _check_size(scores: Floats, settings: Settings) -> None:
    height, width = settings.crop
    if scores.shape[2:] != (height, width):
        raise UsageError(
            f"the score blob is {tuple(scores.shape)}, expected (1, classes, {height}, {width}): "
            "name the blob of full resolution (after the last Interp layer), and use a crop of "
            "8 k + 1 pixels, such as 513 or 321, for networks that shrink by 8"
        )
