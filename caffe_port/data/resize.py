"""OpenCV's two resizes of 8-bit pictures, in its own fixed-point arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Taps = npt.NDArray[np.intp]


def resize_linear(picture: Bytes, height: int, width: int) -> Bytes:
    """Bilinear, pixel centres at half integers, weights of 11 bits.

    Args:
        picture: (H, W) or (H, W, C) uint8.
        height, width: wanted size, at least 1.
    Returns:
        (height, width[, C]) uint8.
    Source: OpenCV 2.4-3, resize with INTER_LINEAR on CV_8U (HResizeLinear, VResizeLinear).
    """
    if picture.shape[:2] == (height, width):
        return picture.copy()
    left, right, across = _linear_taps(picture.shape[1], width)
    top, bottom, down = _linear_taps(picture.shape[0], height)
    source = picture.reshape(picture.shape[0], picture.shape[1], -1).astype(np.int32)
    rows = source[:, left] * across[0][:, None] + source[:, right] * across[1][:, None]
    # Four bits are dropped before each product so that OpenCV's stays within 32 bits. Both
    # halves are cut by themselves, so beyond an edge the two weights still count apart.
    upper = ((rows[top] >> 4) * down[0][:, None, None]) >> 16
    lower = ((rows[bottom] >> 4) * down[1][:, None, None]) >> 16
    levels: Bytes = np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)
    return levels.reshape((height, width, *picture.shape[2:]))


def resize_nearest(picture: Bytes, height: int, width: int) -> Bytes:
    """Nearest neighbour, rounding down: right for label maps.

    Args and returns: as ``resize_linear``.
    Source: OpenCV, resize with INTER_NEAREST.
    """
    rows = _nearest_taps(picture.shape[0], height)
    columns = _nearest_taps(picture.shape[1], width)
    return np.ascontiguousarray(picture[rows][:, columns])


def _linear_taps(size: int, wanted: int) -> tuple[Taps, Taps, npt.NDArray[np.int32]]:
    """Both source positions of every output position, and their integer weights (2, wanted)."""
    position = ((np.arange(wanted) + 0.5) * _step(size, wanted) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.intp)
    fraction = position - first.astype(np.float32)
    weights = np.stack([1 - fraction, fraction]) * np.float32(2048)
    low, high = np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1)
    return low, high, np.rint(weights).astype(np.int32)


def _nearest_taps(size: int, wanted: int) -> Taps:
    nearest: Taps = np.floor(np.arange(wanted) * _step(size, wanted)).astype(np.intp)
    return nearest.clip(0, size - 1)


def _step(size: int, wanted: int) -> float:
    """Source pixels per output pixel, rounded twice as OpenCV does."""
    return 1.0 / (wanted / size)
