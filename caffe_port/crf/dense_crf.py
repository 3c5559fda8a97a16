"""The fully connected CRF over the pixels of one image, with DeepLab's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _checks as checks
from caffe_port.crf._lattice import Kernel, mean_field
from caffe_port.errors import UsageError

Normalization = Literal["after", "symmetric"]


class DenseCRF:
    """Pixels that all see each other through Gaussian kernels; labels pay when they differ.

        Q = softmax(-U);  iterations times:  Q = softmax(-U + sum_k weight_k n_k (K_k Q))

    Kernels are filtered over a permutohedral lattice, which approximates them, and are summed in
    the order in which they were added. The object holds lattices only: ``infer`` may be called
    often, and from several threads, since it changes nothing and does not hold the GIL.

    Args:
        height, width: size of the image in pixels.
        labels: number of labels, at least 1.
        normalization: "after", n = 1 / (K 1 + 1e-20) applied to the filtered values (DeepLab), or
            "symmetric", n = 1 / sqrt(K 1 + 1e-20) before and after filtering (pydensecrf).
    Raises:
        UsageError: from any method, when an argument is not what is described.
    Source: Kraehenbuehl and Koltun, NIPS 2011; DeepLab's libDenseCRF, densecrf.cpp.
    """

    def __init__(
        self,
        height: int,
        width: int,
        labels: int = 21,
        *,
        normalization: Normalization = "after",
    ) -> None:
        self.height = checks.count("height", height, 1)
        self.width = checks.count("width", width, 1)
        self.labels = checks.count("labels", labels, 1)
        if normalization not in ("after", "symmetric"):
            raise UsageError(f"normalization is {normalization!r}; expected 'after' or 'symmetric'")
        self.normalization = normalization
        self._kernels: tuple[Kernel, ...] = ()

    def add_gaussian(self, sxy: float | Sequence[float], *, weight: float) -> DenseCRF:
        """Add a kernel over positions, which smooths.

        Args:
            sxy: its width in pixels, or (in x, in y).
            weight: what it counts.
        Returns:
            self, so that calls may be chained.
        """
        sx, sy = checks.widths("sxy", sxy, 2)
        return self._add(self._positions(sx, sy, 2), weight)

    def add_bilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        image: ArrayLike,
        *,
        weight: float,
    ) -> DenseCRF:
        """Add a kernel over positions and colours, which follows edges.

        Args:
            sxy: its width in pixels, or (in x, in y).
            srgb: its width in units of colour, or one for each channel.
            image: (H, W, 3) uint8 or float32. The order of the channels and their offset move the
                lattice: DeepLab's programs give RGB, its Caffe layer BGR minus the mean.
            weight: what it counts.
        Returns:
            self, so that calls may be chained.
        """
        sx, sy = checks.widths("sxy", sxy, 2)
        colour_widths = checks.widths("srgb", srgb, 3)
        colours = checks.picture("image", image, self.height, self.width)
        features = self._positions(sx, sy, 5)
        with np.errstate(over="ignore", under="ignore"):
            np.divide(colours, np.array(colour_widths, np.float32), out=features[:, :, 2:])
        return self._add(features, weight)

    def infer(self, unary: ArrayLike, iterations: int = 10) -> NDArray[np.float32]:
        """Marginal probabilities after mean-field inference.

        Args:
            unary: (labels, H, W) float32 or float64 (converted), negative log probabilities up to
                a constant per pixel. +inf rules a label out.
            iterations: at least 0.
        Returns:
            (labels, H, W) float32, which sums to 1 over the labels.
        """
        shape = (self.labels, self.height, self.width)
        energies = checks.unary_energies("unary", unary, shape)
        rounds = checks.count("iterations", iterations, 0)
        q = np.empty(shape, dtype=np.float32)
        flat = (self.labels, self.height * self.width)
        try:
            mean_field(energies.reshape(flat), self._kernels, rounds, q.reshape(flat))
        except OverflowError as error:
            raise UsageError(f"unary or weights are too large: {error}") from error
        return q

    def map(self, unary: ArrayLike, iterations: int = 10) -> NDArray[np.int32]:
        """The most probable label of each pixel, (H, W); see ``infer`` and ``map_labels``."""
        return map_labels(self.infer(unary, iterations))

    def _positions(self, sx: float, sy: float, depth: int) -> NDArray[np.float32]:
        """Features (H, W, depth) with x / sx and y / sy in the first two places."""
        features = np.empty((self.height, self.width, depth), dtype=np.float32)
        with np.errstate(over="ignore", under="ignore"):
            features[:, :, 0] = np.arange(self.width, dtype=np.float32) / np.float32(sx)
            features[:, :, 1] = (np.arange(self.height, dtype=np.float32) / np.float32(sy))[:, None]
        return features

    def _add(self, features: NDArray[np.float32], weight: float) -> DenseCRF:
        flat = features.reshape(self.height * self.width, -1)
        checked = checks.number("weight", weight)
        try:
            kernel = Kernel(flat, checked, self.normalization == "symmetric")
        except (ValueError, ArithmeticError) as error:
            raise UsageError(f"the widths are too small for this image: {error}") from error
        self._kernels += (kernel,)
        return self


def map_labels(q: NDArray[np.float32]) -> NDArray[np.int32]:
    """The most probable label of each pixel, the lowest among equals.

    Args:
        q: (labels, H, W) probabilities.
    Returns:
        (H, W) int32.
    Source: DeepLab's libDenseCRF, densecrf.cpp, currentMap.
    """
    labels: NDArray[np.int32] = q.argmax(axis=0).astype(np.int32)
    return labels
