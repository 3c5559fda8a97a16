"""Refinement of a net's scores by the dense CRF."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _checks as checks
from caffe_port.crf.dense_crf import DenseCRF
from caffe_port.crf.params import CRFParameters
from caffe_port.errors import UsageError


def build(
    height: int,
    width: int,
    labels: int,
    image: ArrayLike | None,
    parameters: CRFParameters,
    *,
    threads: int = 1,
    exact: bool = False,
) -> DenseCRF:
    """A DenseCRF with the kernels of parameters, positions first.

    Args:
        image: (H, W, 3) uint8 or float32; None where parameters have no bilateral kernel.
    Raises:
        UsageError: an argument is not as described.
    """
    crf = DenseCRF(height, width, labels, threads=threads, exact=exact)
    for weight, width_xy in zip(parameters.pos_w, parameters.pos_xy_std, strict=True):
        crf.add_gaussian(width_xy, weight=weight)
    bilateral = zip(parameters.bi_w, parameters.bi_xy_std, parameters.bi_rgb_std, strict=True)
    for weight, width_xy, width_rgb in bilateral:
        if image is None:
            raise UsageError("a bilateral kernel needs the image")
        crf.add_bilateral(width_xy, width_rgb, image, weight=weight)
    return crf


def refine(
    scores: ArrayLike,
    image: ArrayLike,
    parameters: CRFParameters,
    *,
    probabilities: bool = False,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Refine a net's scores of an image.

    Args:
        scores: (C, H, W) float32 or float64: scores before the softmax (or log probabilities),
            of which unary = -scores; with probabilities, unary = -log(scores), not clipped.
        image: (H, W, 3) uint8 or float32, used unchanged: RGB gives the labels of DeepLab's
            programs, BGR minus the mean those of its Caffe layer (some 0.3 % differ).
        parameters: kernels and iterations.
        threads: at most 8 are used; the result is the same.
    Returns:
        (C, H, W) float32 probabilities.
    Raises:
        UsageError: an argument is not as described, or a probability is negative.
    Source: DeepLab's refine_pascal and refine_pascal_v4, dense_inference.cpp.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.crf import PRESETS, refine
        >>> scores = np.zeros((21, 40, 50), np.float32)
        >>> image = np.zeros((40, 50, 3), np.uint8)
        >>> refine(scores, image, PRESETS["v1_largefov"]).shape
        (21, 40, 50)
    """
    values = checks.finite("scores", checks.floats("scores", scores, ("C", "H", "W")))
    if probabilities and values.min() < 0:
        raise UsageError(f"scores hold a negative probability, {values.min()}")
    with np.errstate(divide="ignore"):
        unary = -np.log(values) if probabilities else -values
    labels, height, width = unary.shape
    crf = build(height, width, labels, image, parameters, threads=threads)
    return crf.infer(unary, parameters.iterations)
