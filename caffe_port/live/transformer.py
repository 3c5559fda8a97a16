"""Turns images into net inputs: resizing and ``caffe.io.Transformer``.

Source: BVLC/caffe python/caffe/io.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]


def resize_image(im: _Array, new_dims: Sequence[int] | _Array, interp_order: int = 1) -> _Floats:
    """Resizes an image as the scikit-image of pycaffe's time: without smoothing.

    With 1 or 3 channels pixels are areas, and outside of the image is its smallest value, so
    borders darken when it is enlarged; otherwise the centres of the corner pixels are kept.

    Args:
        im: (H, W, K).
        new_dims: (H', W').
        interp_order: degree of the spline, 1 is linear.
    Returns:
        (H', W', K) float32.
    """
    from scipy import ndimage

    height, width = int(new_dims[0]), int(new_dims[1])
    scale = (height / im.shape[0], width / im.shape[1], 1.0)
    if im.shape[-1] not in (1, 3):
        zoomed = ndimage.zoom(im, scale, order=interp_order)
        return np.asarray(zoomed, dtype=np.float32)
    low, high = im.min(), im.max()
    if low == high:
        return np.full((height, width, im.shape[-1]), low, dtype=np.float32)
    resized = ndimage.zoom(
        (im - low) / (high - low), scale, order=interp_order, mode="grid-constant", cval=0.0,
        grid_mode=True,
    )  # fmt: skip
    # splines of higher degree overshoot, which scikit-image clips
    return np.asarray(np.clip(resized, 0, 1) * (high - low) + low, dtype=np.float32)


class Transformer:
    """Turns images into inputs of a net, and back.

    Args:
        inputs: input blob name -> its shape (N, K, H, W).
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, _Array] = {}
        self.input_scale: dict[str, float] = {}

    def _check(self, in_: str) -> None:
        if in_ not in self.inputs:
            known = ", ".join(self.inputs)
            raise ValueError(f"{in_} is not one of the net inputs: {known}")

    def preprocess(self, in_: str, data: _Array) -> _Floats:
        """Resizes, transposes, swaps channels, scales, subtracts the mean, scales: in this order.

        Args:
            in_: input blob name.
            data: (H', W', K).
        Returns:
            (K, H, W) float32.
        """
        self._check(in_)
        values: _Floats = data.astype(np.float32)
        if values.shape[:2] != self.inputs[in_][2:]:
            values = resize_image(values, self.inputs[in_][2:])
        if in_ in self.transpose:
            values = values.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            values = values[list(self.channel_swap[in_])]
        values = values * np.float32(self.raw_scale.get(in_, 1))
        if in_ in self.mean:
            values = (values - self.mean[in_]).astype(np.float32)
        return np.asarray(values * np.float32(self.input_scale.get(in_, 1)))

    def deprocess(self, in_: str, data: _Array) -> _Array:
        """Turns an input (K, H, W) back into an image (H, W, K), of the input's size."""
        self._check(in_)
        values: _Array = data.copy().squeeze()
        values = values / values.dtype.type(self.input_scale.get(in_, 1))
        if in_ in self.mean:
            values = (values + self.mean[in_]).astype(values.dtype)
        values = values / values.dtype.type(self.raw_scale.get(in_, 1))
        if in_ in self.channel_swap:
            values = values[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            values = values.transpose(np.argsort(self.transpose[in_]))
        return values

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of axes: (2, 0, 1) turns (H, W, K) into (K, H, W).

        Raises:
            ValueError: no such input, or not one entry per axis.
        """
        self._check(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise ValueError(f"a transpose order of {len(order)} axes for input {self.inputs[in_]}")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of channels after the transpose: (2, 1, 0) turns RGB into BGR.

        Raises:
            ValueError: no such input, or not one entry per channel.
        """
        self._check(in_)
        if len(order) != self.inputs[in_][1]:
            raise ValueError(f"a swap of {len(order)} channels for input {self.inputs[in_]}")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Sets the factor before the mean: 255 if the mean is in 0 .. 255."""
        self._check(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: _Array) -> None:
        """Sets the mean that is subtracted.

        Args:
            in_: input blob name.
            mean: (K,), or (H', W') or (K, H', W'), which is resized to the input.
        Raises:
            ValueError: its shape is none of these.
        """
        self._check(in_)
        channels, *size = self.inputs[in_][1:]
        if mean.ndim == 1:
            if len(mean) != channels:
                raise ValueError(f"a mean of {len(mean)} channels for input {self.inputs[in_]}")
            mean = mean[:, None, None]
        else:
            mean = mean[None] if mean.ndim == 2 else mean
            if mean.ndim != 3:
                raise ValueError(f"a mean of shape {mean.shape}; expected 1, 2 or 3 axes")
            if mean.shape != (channels, *size):
                mean = resize_image(mean.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Sets the factor after the mean."""
        self._check(in_)
        self.input_scale[in_] = scale
