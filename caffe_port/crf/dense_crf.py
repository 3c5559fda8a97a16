"""The fully connected CRF over the pixels of one image, with DeepLab's numbers or pydensecrf's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _kernels as checks
from caffe_port.crf._kernels import (
    Normalization,
    feature_kernel,
    image_kernel,
    no_threads,
    position_kernel,
)
from caffe_port.crf._lattice import MOST_THREADS, Kernel, mean_field
from caffe_port.errors import UsageError

Flavour = Literal["deeplab", "krahenbuhl2013"]
_DEFAULTS: dict[Flavour, tuple[Normalization, str]] = {
    "deeplab": ("after", "cut off"),
    "krahenbuhl2013": ("symmetric", "clamped"),
}


class DenseCRF:
    """Pixels that are all connected by Gaussian kernels, with a cost for different labels.

        Q = softmax(-U);  iterations times:  Q = softmax(-U + sum_k weight_k n_k (K_k Q))

    Kernels are filtered over a permutohedral lattice, which approximates them, and are summed in
    the order in which they were added. The object holds lattices only: ``infer`` may be called
    repeatedly and from several threads: it changes nothing and releases the GIL.

    A weight is a number, the gain of two pixels with the same label; or, as in pydensecrf, a matrix
    (labels, labels) of the cost of each pair of labels, whose symmetric part counts, or a vector,
    the diagonal of such a matrix. So the number w equals the vector of -w.

    Args:
        height, width: size of the image in pixels.
        labels: number of labels, at least 1.
        flavour: "deeplab", or "krahenbuhl2013" for pydensecrf's results: another default
            normalisation, and an exponential that is not cut off at e^-20.
        normalization: how kernels are normalised: "after", n = 1 / (K 1 + 1e-20) applied to the
            filtered values; "before", applied to Q; "symmetric", n = 1 / sqrt(K 1 + 1e-20) on both
            sides; "none". By default "after" for DeepLab, "symmetric" for the other.
        threads: for each call, of which up to 8 are used. They do not change the result.
        exact: add up pixels in the original's order, for DeepLab's result to the last bit. By
            default pixels are added in eight parts, which differs by rounding (some 1e-6).
    Raises:
        UsageError: an argument is not as described, or the image has too many pixels.
    Source: Kraehenbuehl and Koltun, NIPS 2011; DeepLab's libDenseCRF, densecrf.cpp.
    Examples:
        >>> import numpy as np
        >>> from caffe_port import DenseCRF
        >>> image = np.zeros((2, 3, 3), np.uint8)
        >>> unary = np.zeros((4, 2, 3), np.float32)
        >>> unary[1] = -1  # label 1 is the most probable
        >>> crf = DenseCRF(2, 3, labels=4).add_gaussian(3, weight=3)
        >>> crf = crf.add_bilateral(121, 5, image, weight=4)
        >>> crf.infer(unary, 10).shape
        (4, 2, 3)
        >>> crf.map(unary, 10).tolist()
        [[1, 1, 1], [1, 1, 1]]
    """

    def __init__(
        self,
        height: int,
        width: int,
        labels: int = 21,
        *,
        flavour: Flavour = "deeplab",
        normalization: Normalization | None = None,
        threads: int = 1,
        exact: bool = False,
    ) -> None:
        self.height = checks.count("height", height, 1)
        self.width = checks.count("width", width, 1)
        self.labels = checks.count("labels", labels, 1)
        if self.height * self.width > checks.MOST_PIXELS:
            raise UsageError(
                f"an image of {height} x {width} pixels; expected at most {checks.MOST_PIXELS:,}"
            )
        if flavour not in _DEFAULTS:
            raise UsageError(f"flavour is {flavour!r}; expected one of {', '.join(_DEFAULTS)}")
        usual, self._exponential = _DEFAULTS[flavour]
        self.flavour = flavour
        self.normalization = checks.normalization(normalization or usual)
        self.threads = min(checks.count("threads", threads, 1), MOST_THREADS)
        self.exact = bool(exact)
        self._kernels: tuple[Kernel, ...] = ()
        self._weights: tuple[float | NDArray[np.float32], ...] = ()
        self._kinds: tuple[str, ...] = ()  # in words

    def add_gaussian(
        self,
        sxy: float | Sequence[float],
        *,
        weight: float | ArrayLike,
        normalization: Normalization | None = None,
    ) -> DenseCRF:
        """Add a kernel over positions, which smooths.

        Args:
            sxy: its width in pixels, or (in x, in y).
            weight: of the kernel; see the class.
            normalization: for this kernel.
        Returns:
            self, so that calls may be chained.
        Raises:
            UsageError: an argument is not as described.
        """
        widths = checks.widths("sxy", sxy, 2)
        checked = checks.compatibility("weight", weight, self.labels)
        how = checks.normalization(normalization or self.normalization)
        kernel = position_kernel(self.height, self.width, widths, how, self.exact)
        return self._add(kernel, checked, f"gaussian, sxy {sxy}")

    def add_bilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        image: ArrayLike,
        *,
        weight: float | ArrayLike,
        normalization: Normalization | None = None,
    ) -> DenseCRF:
        """Add a kernel over positions and colours, which follows edges.

        Args:
            sxy: its width in pixels, or (in x, in y).
            srgb: its width in units of colour, or one for each channel.
            image: (H, W, 3) uint8 or float32. The order of the channels and their offset move the
                lattice: DeepLab's programs give RGB, its Caffe layer BGR minus the mean.
            weight: of the kernel; see the class.
            normalization: for this kernel.
        Returns:
            self, so that calls may be chained.
        Raises:
            UsageError: an argument is not as described.
        """
        widths = checks.widths("sxy", sxy, 2) + checks.widths("srgb", srgb, 3)
        colours = checks.colours("image", image, self.height, self.width)
        checked = checks.compatibility("weight", weight, self.labels)
        kernel = image_kernel(colours, widths, *self._how(normalization))
        return self._add(kernel, checked, f"bilateral, sxy {sxy}, srgb {srgb}")

    def add_features(
        self,
        features: ArrayLike,
        *,
        weight: float | ArrayLike,
        normalization: Normalization | None = None,
    ) -> DenseCRF:
        """Add a kernel of unit width over features of your own.

        Args:
            features: (H, W, D) float32 or float64, D from 1 to 16.
            weight: of the kernel; see the class.
            normalization: for this kernel.
        Returns:
            self, so that calls may be chained.
        Raises:
            UsageError: an argument is not as described.
        """
        rows = checks.features("features", features, self.height, self.width)
        checked = checks.compatibility("weight", weight, self.labels)
        kernel = feature_kernel(rows, *self._how(normalization))
        return self._add(kernel, checked, f"{rows.shape[-1]} features")

    def with_weights(self, *weights: float | ArrayLike) -> DenseCRF:
        """The same kernels, in the order they were added, with other weights.

        Lattices are shared, not built again.

        Raises:
            UsageError: another number of weights than of kernels, or one that is not a weight.
        """
        if len(weights) != len(self._kernels):
            raise UsageError(f"{len(weights)} weights for {len(self._kernels)} kernels")
        result = copy.copy(self)
        result._weights = tuple(
            checks.compatibility("weight", weight, self.labels) for weight in weights
        )
        return result

    def infer(
        self, unary: ArrayLike, iterations: int = 10, *, start: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Marginal probabilities after mean-field inference.

        Args:
            unary: (labels, H, W) float32 or float64 (converted), negative log probabilities up to
                a constant per pixel. +inf rules a label out.
            iterations: at least 0.
            start: (labels, H, W) probabilities to start from, instead of softmax(-unary).
        Returns:
            (labels, H, W) float32, which sums to 1 over the labels.
        Raises:
            UsageError: another shape or dtype; NaN or -inf, or a pixel whose labels are all ruled
                out; energies or weights so large that float32 overflows; no memory or threads.
        """
        q = np.empty((self.labels, self.height, self.width), dtype=np.float32)
        self._run(unary, iterations, q=q, start=start)
        return q

    def map(self, unary: ArrayLike, iterations: int = 10) -> NDArray[np.int32]:
        """The most probable label of each pixel, the lowest among equals.

        Args, Raises: see ``infer``.
        Returns:
            (H, W) int32.
        """
        labels = np.empty((self.height, self.width), dtype=np.int32)
        self._run(unary, iterations, best=labels)
        return labels

    def messages(self, q: ArrayLike) -> NDArray[np.float32]:
        """The weighted sum of all kernels applied to q: sum_k weight_k n_k (K_k q).

        Args:
            q: (labels, H, W) finite.
        Returns:
            (labels, H, W) float32.
        Raises:
            UsageError: another shape or dtype, or values that are not finite.
        """
        result = np.empty((self.labels, self.height, self.width), dtype=np.float32)
        self._run(np.zeros_like(result), 1, q=result, start=q, normalise=False)
        return result

    @property
    def kernel_count(self) -> int:
        """Number of kernels added so far."""
        return len(self._kernels)

    def filtered(
        self, values: ArrayLike, kernel: int, *, adjoint: bool = False
    ) -> NDArray[np.float32]:
        """One kernel applied to values, without its weight: n (K values).

        Args:
            values: (labels, H, W) finite, of any sign.
            kernel: its number, from 0 in the order they were added.
            adjoint: apply the transpose instead, n included: it maps a gradient with respect to
                the result to one with respect to values.
        Returns:
            (labels, H, W) float32.
        Raises:
            UsageError: no such kernel, another shape or dtype, or values that are not finite.
        """
        if checks.count("kernel", kernel, 0) >= len(self._kernels):
            raise UsageError(f"kernel is {kernel}; there are {len(self._kernels)}, numbered from 0")
        shape = (self.labels, self.height, self.width)
        start = checks.finite("values", checks.floats("values", values, shape))
        one = copy.copy(self)
        one._kernels, one._weights = (self._kernels[kernel],), (1.0,)
        result = np.empty(shape, dtype=np.float32)
        zeros = np.zeros_like(result)
        one._run(zeros, 1, q=result, start=start, normalise=False, adjoint=adjoint)
        return result

    def _run(
        self, unary: ArrayLike, iterations: int, start: ArrayLike | None = None, **into: Any
    ) -> None:
        shape = (self.labels, self.height, self.width)
        energies = checks.unary_energies("unary", unary, shape)
        rounds = checks.count("iterations", iterations, 0)
        if start is not None:
            into["start"] = checks.finite("q", checks.floats("q", start, shape))
        exponential = "exact" if self.exact else self._exponential
        into.update(exponential=exponential, exact=self.exact, threads=self.threads)
        try:
            mean_field(energies, self._kernels, self._weights, rounds, **into)
        except OverflowError as error:
            raise UsageError(f"unary or weights are too large: {error}") from error
        except RuntimeError as error:
            raise no_threads(error) from error

    def _how(self, normalization: Normalization | None) -> tuple[Normalization, bool, int]:
        return checks.normalization(normalization or self.normalization), self.exact, self.threads

    def _add(self, kernel: Kernel, weight: float | NDArray[np.float32], kind: str) -> DenseCRF:
        self._kernels += (kernel,)
        self._weights += (weight,)
        self._kinds += (kind,)
        return self

    def __repr__(self) -> str:
        kernels = [f"{kind}, weight {self._weight(i)}" for i, kind in enumerate(self._kinds)]
        return f"<DenseCRF {self._summary()}: {'; '.join(kernels) or 'no kernels'}>"

    def _repr_html_(self) -> str:
        from caffe_port.reports.html import folded

        headers = ("kernel", "weight", "lattice points", "kind")
        return folded(
            f"DenseCRF {self._summary()}, {self.kernel_count} kernels", headers,
            range(len(self._kinds)),
            lambda i: (i, self._weight(i), self._kernels[i].vertices, self._kinds[i]),
        )  # fmt: skip

    def _summary(self) -> str:
        size = f"{self.width} x {self.height} pixels, {self.labels} labels"
        return f"of {size} ({self.flavour}, normalization {self.normalization})"

    def _weight(self, kernel: int) -> str:
        weight = self._weights[kernel]
        return f"{weight:g}" if isinstance(weight, float | int) else f"of shape {weight.shape}"


def map_labels(q: NDArray[np.float32]) -> NDArray[np.int32]:
    """The most probable label of each pixel, the lowest among equals.

    Args:
        q: (labels, H, W) probabilities.
    Returns:
        (H, W) int32.
    Source: DeepLab's libDenseCRF, densecrf.cpp, currentMap.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.crf import map_labels
        >>> map_labels(np.array([[[0.25, 0.5]], [[0.75, 0.5]]], np.float32)).tolist()
        [[1, 0]]
    """
    labels: NDArray[np.int32] = q.argmax(axis=0).astype(np.int32)
    return labels
