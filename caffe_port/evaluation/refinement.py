"""From scores to label maps: the best labels, and the dense CRF that refines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from caffe_port.crf import CRFParameters, DenseCRF
from caffe_port.crf.params import from_mapping
from caffe_port.crf.refinement import build
from caffe_port.data.images import Bytes, PathLike
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import VOC_MEAN, Floats
from caffe_port.files import read_json

Colours = Literal["layer", "rgb"]
Refiner = Callable[[Floats, Bytes], Bytes]


class RefinerFactory(Protocol):
    """Builds a refinement, which is called from several threads concurrently.

    The refinement maps (C, h, w) scores and the (h, w, 3) uint8 image, blue first, to labels
    (h, w).
    """

    def __call__(self, threads: int) -> Refiner:
        """The refinement; ``threads`` is how many it may use for one image."""

    def describe(self) -> dict[str, object]:
        """What decides its result, as JSON."""


@dataclass(frozen=True)
class CRFFactory:
    """Builds the dense CRF with given parameters.

    Args:
        parameters: kernels and iterations.
        colours: "layer" gives the bilateral kernels blue, green, red minus the mean, as Caffe's
            DenseCRF layer; "rgb" gives them red, green, blue, as DeepLab's separate programs
            (about 0.3 % of the labels differ).
        mean: blue, green, red, for "layer".
    Examples:
        >>> from caffe_port.crf import PRESETS
        >>> from caffe_port.evaluation import CRFFactory
        >>> CRFFactory(PRESETS["v1_largefov"], colours="rgb").describe()["colours"]
        'rgb'
    """

    parameters: CRFParameters
    colours: Colours = "layer"
    mean: tuple[float, float, float] = VOC_MEAN

    def __call__(self, threads: int) -> Refiner:
        """The refinement; nothing is loaded."""

        def refiner(scores: Floats, image_bgr: Bytes) -> Bytes:
            crf = self.crf(scores, image_bgr, threads)
            return crf.map(-scores, self.parameters.iterations).astype(np.uint8)

        return refiner

    def crf(self, scores: Floats, image_bgr: Bytes, threads: int) -> DenseCRF:
        """The dense CRF of one image, whose unaries are the negative scores.

        Args:
            scores: (C, h, w).
            image_bgr: (h, w, 3) uint8, blue first.
            threads: as many as it may use.
        Raises:
            UsageError: its widths are too small for an image of this size.
        """
        labels, height, width = scores.shape
        image = bilateral_colours(image_bgr, self.colours, self.mean)
        return build(height, width, labels, image, self.parameters, threads=threads)

    def describe(self) -> dict[str, object]:
        """Parameters and colours."""
        return {**self.parameters.as_dict(), "colours": self.colours}


def bilateral_colours(
    image_bgr: Bytes, colours: Colours, mean: tuple[float, float, float]
) -> Floats:
    """The colours that the bilateral kernels get, see ``CRFFactory``.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
        mean: blue, green, red.
    Returns:
        (h, w, 3) float32.
    """
    if colours == "rgb":
        return np.ascontiguousarray(image_bgr[:, :, ::-1]).astype(np.float32)
    return image_bgr.astype(np.float32) - np.array(mean, np.float32)


def read_crf_config(
    path: PathLike, colours: Colours | None = None, mean: tuple[float, float, float] = VOC_MEAN
) -> CRFFactory:
    """The dense CRF of a JSON file, such as the best.json that a grid search writes.

    Args:
        path: an object of ``CRFParameters``' names; those left out are DeepLab v1's. It may also
            name its "colours".
        colours: what they must be; by default those of the file, else "layer".
    Raises:
        ReadError, FormatError, DataError: the file cannot be read or is not such an object.
        UsageError: a setting is wrong, or the file was made for other colours.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected one JSON object of CRF settings")
    found = values.pop("colours", None)
    if found not in (None, "layer", "rgb"):
        raise UsageError(f'{path}: colours is {found!r}; expected "layer" or "rgb"')
    if found is not None and colours is not None and colours != found:
        raise UsageError(f"{path}: its settings are for colours {found}, {colours} is asked for")
    try:
        return CRFFactory(from_mapping(values), colours or found or "layer", mean)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Prediction:
    """Label maps of one image, (h, w) uint8; ``after`` is None without a refinement."""

    before: Bytes
    after: Bytes | None
    classes: int


def label_maps(scores: Floats, image_bgr: Bytes, refiner: Refiner | None) -> Prediction:
    """Label maps of one image's scores; among equal scores the lowest class wins.

    (Caffe's SegAccuracy layer takes the highest there; its ArgMax and CRF users vary.)

    Args:
        scores: (C, h, w) at the image's size.
        image_bgr: (h, w, 3) uint8, blue first.
        refiner: see ``RefinerFactory``; None for label maps without refinement.
    """
    before = best_labels(scores)
    after = None if refiner is None else refiner(scores, image_bgr)
    return Prediction(before, after, len(scores))


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
