"""Refinement of a net's scores by the dense CRF, by programs or the DenseCRF layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _kernels as checks
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


FLT_MIN = np.finfo(np.float32).tiny


def dense_crf_forward(
    scores: ArrayLike,
    data_dim: ArrayLike,
    data: ArrayLike | None,
    parameters: CRFParameters,
    output_probability: bool = True,
) -> NDArray[np.float32]:
    """Infer each item of a batch over its real area; the padding around it is 0 in the result.

    Pixels are added up in Caffe's order, so that the result equals Caffe's to the last bit.
    ``refine`` takes half the time and differs by rounding.

    Args:
        scores: (N, C, H, W) float32; unary = -scores.
        data_dim: (N, 1, 1, 2) real height and width of each item; larger ones mean all of it.
        data: (N, 3, H, W) float32, the net's input (BGR minus the mean), as features. None where
            parameters have no bilateral kernel. Upstream reads item 0's colours for every item;
            this reads each item's own.
        parameters: kernels and iterations.
        output_probability: False for the logarithm, floored at that of FLT_MIN.
    Returns:
        (N, C, H, W) float32.
    Raises:
        UsageError: a shape, dtype or value is not as described.
    Source: DeepLab v2 densecrf_layer.cpp, Forward_cpu.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.crf import PRESETS, dense_crf_forward
        >>> scores = np.zeros((1, 21, 9, 9), np.float32)
        >>> image = np.zeros((1, 3, 9, 9), np.float32)
        >>> size = np.array([9, 6], np.float32).reshape(1, 1, 1, 2)
        >>> q = dense_crf_forward(scores, size, image, PRESETS["v1_largefov"])
        >>> q.shape, float(q[:, :, :, 6:].max())
        ((1, 21, 9, 9), 0.0)
    """
    batch = checks.finite("scores", checks.floats("scores", scores, ("N", "C", "H", "W")))
    number, labels, height, width = batch.shape
    dims = checks.finite("data_dim", checks.floats("data_dim", data_dim, (number, 1, 1, 2)))
    colours = None if data is None else checks.floats("data", data, (number, 3, height, width))
    result = np.zeros_like(batch)
    for n in range(number):
        h, w = (min(int(dims[n, 0, 0, i]), batch.shape[2 + i]) for i in (0, 1))
        if h < 1 or w < 1:
            raise UsageError(f"data_dim of item {n} is {dims[n].ravel()}; expected at least 1 x 1")
        image = None if colours is None else colours[n, :, :h, :w].transpose(1, 2, 0)
        crf = build(h, w, labels, image, parameters, exact=True)
        q = crf.infer(-batch[n, :, :h, :w], parameters.iterations)
        result[n, :, :h, :w] = q if output_probability else _log(q)
    return result


def _log(q: NDArray[np.float32]) -> NDArray[np.float32]:
    # In double, for the nearest float32: the C library's logf is within one unit of that, and
    # numpy's own only within two.
    return np.log(np.maximum(q, FLT_MIN), dtype=np.float64).astype(np.float32)
