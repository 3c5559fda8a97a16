"""pydensecrf.utils' names: unary energies and features from labels, probabilities and images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _kernels as checks
from caffe_port.crf.pydensecrf import is_strict
from caffe_port.errors import UsageError

Floats = NDArray[np.float32]
_SLIGHTLY = 0.05  # tolerance outside 0 to 1, for interpolated probabilities


def unary_from_labels(
    labels: ArrayLike, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Floats:
    """Energies of an annotation that is right with probability gt_prob.

    Args:
        labels: integers or booleans of any shape; with zero_unsure 0 means unknown and the labels
            are 1 to n_labels, else they are 0 to n_labels - 1.
        n_labels: at least 2.
        gt_prob: between 0 and 1.
    Returns:
        (n_labels, N) float32.
    Raises:
        UsageError: an argument is not as described.
    """
    count = checks.count("n_labels", n_labels, 2)
    certainty = checks.number("gt_prob", gt_prob, positive=True)
    if certainty >= 1:
        raise UsageError(f"gt_prob is {gt_prob}; it must be between 0 and 1")
    flat = np.asarray(labels).ravel()
    if flat.dtype == bool and not is_strict():
        flat = flat.astype(np.uint8)
    highest = count if zero_unsure else count - 1
    if flat.size == 0 or flat.dtype.kind not in "iu" or flat.min() < 0 or flat.max() > highest:
        raise UsageError(f"labels must be integers from 0 to {highest}, and not empty")
    right, wrong = -np.log(certainty), -np.log((1 - certainty) / (count - 1))
    meant = flat.astype(np.int64) - 1 if zero_unsure else flat
    energies = np.where(np.arange(count)[:, None] == meant, right, wrong)
    if zero_unsure:
        energies[:, flat == 0] = np.log(count)
    result: Floats = energies.astype(np.float32)
    return result


def compute_unary(labels: ArrayLike, M: int, GT_PROB: float = 0.5) -> Floats:  # noqa: N803
    """The older name of ``unary_from_labels``."""
    _renamed("compute_unary", "unary_from_labels")
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(
    sm: ArrayLike, scale: float | None = None, clip: float | None = 1e-5
) -> Floats:
    """Energies -log of probabilities.

    Args:
        sm: (labels, ...) probabilities; masks of integers or booleans too.
        scale: trust in them, above 0 and at most 1; the rest is uniform.
        clip: the least probability, which replaces smaller and negative ones; None for none.
    Returns:
        (labels, N) float32; +inf where a probability is 0 and clip is None.
    Raises:
        UsageError: an argument is not as described; a negative probability that is not clipped.
    Warns:
        UserWarning: values far from 0 to 1, which are scores rather than probabilities.
    """
    p = np.asarray(sm)
    kinds = "f" if is_strict() else "fiub"
    if p.ndim == 0 or p.size == 0 or p.dtype.kind not in kinds or not np.isfinite(p).all():
        raise UsageError(f"sm {p.shape} {p.dtype} must be finite floats (labels, ...), not empty")
    least, most = p.min(), p.max()
    if scale is not None:
        if not 0 < checks.number("scale", scale) <= 1:
            raise UsageError(f"scale is {scale}; it must be above 0 and at most 1")
        p = scale * p + (1 - scale) * np.full(p.shape, 1 / len(p))
    if (is_strict() and least < 0) or (clip is None and p.min() < 0):
        raise UsageError(f"sm holds a negative probability, {least}")
    if clip is not None:
        if least < -_SLIGHTLY or most > 1 + _SLIGHTLY:
            message = f"sm holds values from {least} to {most}, which are cut to probabilities"
            warnings.warn(f"{message}; scores need a softmax first", stacklevel=2)
        p = np.clip(p, checks.number("clip", clip), 1.0)
    with np.errstate(divide="ignore"):
        energies: Floats = -np.log(p).reshape(len(p), -1).astype(np.float32)
    return energies


def softmax_to_unary(sm: ArrayLike, GT_PROB: float = 1) -> Floats:  # noqa: N803
    """The older form of ``unary_from_softmax``, which does not clip."""
    _renamed("softmax_to_unary", "unary_from_softmax")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> Floats:
    """Positions on a grid over their widths.

    Args:
        sdims: a width for each axis.
        shape: of the grid.
    Returns:
        (axes, N) float32.
    Raises:
        UsageError: an argument is not as described.
    """
    sizes = [checks.count(f"shape[{i}]", size, 1) for i, size in enumerate(shape)]
    grid = np.indices(sizes).astype(np.float32)
    return _scaled("sdims", grid, sdims).reshape(len(sizes), -1)


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img: ArrayLike, chdim: int = -1
) -> Floats:
    """Positions over their widths, and channels over theirs.

    Args:
        sdims: a width for each axis but that of the channels.
        schan: a width for each channel, or one for all.
        img: an image of any number of axes.
        chdim: its axis of channels; -1 when there is none.
    Returns:
        (axes + channels, N) float32.
    Raises:
        UsageError: an argument is not as described.
    """
    image = np.asarray(img)
    if image.size == 0 or image.dtype.kind not in "iuf" or not -1 <= chdim < image.ndim:
        raise UsageError(f"img {image.shape} {image.dtype} is no image with channels at {chdim}")
    planes = image[None] if chdim == -1 else np.moveaxis(image, chdim, 0)
    channels = _scaled("schan", checks.finite("img", planes.astype(np.float32)), schan)
    positions = create_pairwise_gaussian(sdims, planes.shape[1:])
    return np.concatenate([positions, channels.reshape(len(channels), -1)])


def _scaled(name: str, planes: Floats, by: float | Sequence[float]) -> Floats:
    widths = np.array(checks.widths(name, by, len(planes)), np.float32)
    return planes / widths.reshape(-1, *(1,) * (planes.ndim - 1))


def _renamed(old: str, new: str) -> None:
    warnings.warn(f"{old} is the old name of {new}", DeprecationWarning, stacklevel=3)
