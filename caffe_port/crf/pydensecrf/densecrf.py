"""pydensecrf.densecrf's names over ``caffe_port.crf.DenseCRF``.

Arrays may be of any layout, read-only, float32 or float64 (images: uint8, bool or float32). Inputs
for which the original silently gives meaningless results (NaN, a pixel whose energies are all
infinite, empty arrays, a compatibility of another size, an inference without a unary) raise
UsageError. Results are numpy arrays where the original returns Eigen matrices.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _kernels as checks
from caffe_port.crf._kernels import Normalization
from caffe_port.crf.dense_crf import DenseCRF as Engine
from caffe_port.crf.pydensecrf import eigen, is_strict
from caffe_port.errors import UsageError

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "Unary",
    "eigen",
]

Floats = NDArray[np.float32]
Weight = float | ArrayLike


class KernelType(enum.IntEnum):
    """How the original parametrises a kernel for learning; inference is the same for all."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(enum.IntEnum):
    """How a kernel is normalised."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType

_NAMES: tuple[Normalization, ...] = ("none", "before", "after", "symmetric")


class Unary:
    """Energies of labels (rows) and pixels (columns); +inf rules a label out for a pixel."""

    def __init__(self, energies: ArrayLike) -> None:
        self.energies = checks.floats("unary", energies, ("labels", "N"))
        if is_strict():
            checks.finite("unary", self.energies)


class ConstUnary(Unary):
    """Energies as they are."""


class LogisticUnary(Unary):
    """Energies L f, of weights L (labels, D) and features f (D, N)."""

    def __init__(self, L: ArrayLike, f: ArrayLike) -> None:  # noqa: N803  (pydensecrf's name)
        weights = checks.finite("L", checks.floats("L", L, ("labels", "D")))
        features = checks.finite("f", checks.floats("f", f, (weights.shape[1], "N")))
        super().__init__(weights @ features)


class DenseCRF:
    """A CRF over nvar variables with nlabels labels, and kernels over given features.

    Raises:
        UsageError: from any method, where an argument is not as described.
    """

    def __init__(self, nvar: int, nlabels: int, *, threads: int = 1) -> None:
        self._setup(1, _whole("nvar", nvar, 1), nlabels, threads)

    def _setup(self, height: int, width: int, nlabels: int, threads: int) -> None:
        labels = _whole("nlabels", nlabels, 1)
        self._crf = Engine(height, width, labels, flavour="krahenbuhl2013", threads=threads)
        self._unary: Floats | None = None

    def setUnaryEnergy(self, u: ArrayLike, f: ArrayLike | None = None) -> None:  # noqa: N802
        """Set energies (nlabels, nvar), or, with features f, as of LogisticUnary(u, f)."""
        self.setUnary(ConstUnary(u) if f is None else LogisticUnary(u, f))

    def setUnary(self, u: Unary) -> None:  # noqa: N802
        """Set energies."""
        if not isinstance(u, Unary):
            raise UsageError(f"unary is a {type(u).__name__}; expected a Unary")
        energies = checks.floats("unary", u.energies, self._flat_shape)
        labels, pixels = energies.shape
        checks.unary_energies("unary", energies.reshape(labels, 1, pixels), (labels, 1, pixels))
        self._unary = energies

    def addPairwiseEnergy(  # noqa: N802
        self,
        features: ArrayLike,
        compat: Weight,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel over features (D, nvar), D from 1 to 16."""
        _kernel_type(kernel)
        columns = checks.floats("features", features, ("D", self._flat_shape[1]))
        rows = columns.T.reshape(self._crf.height, self._crf.width, -1)
        self._crf.add_features(rows, weight=compat, normalization=_normalization(normalization))

    def inference(self, niter: int) -> Floats:
        """Probabilities (nlabels, nvar) after niter iterations."""
        rounds = _whole("niter", niter, 0)
        return self._crf.infer(self._energies(), rounds).reshape(self._flat_shape)

    def startInference(self) -> tuple[Floats, Floats, Floats]:  # noqa: N802
        """Q before the first step, and two arrays to pass to ``stepInference``."""
        q = self.inference(0)
        return q, np.zeros_like(q), np.zeros_like(q)

    def stepInference(self, Q: Floats, tmp1: Floats, tmp2: Floats) -> None:  # noqa: N802, N803
        """Replace the content of Q by the result of one more iteration."""
        if not isinstance(Q, np.ndarray) or Q.dtype != np.float32 or not Q.flags.writeable:
            raise UsageError("Q must be the writable float32 array that startInference gave")
        Q[...] = self._crf.infer(self._energies(), 1, start=self._image(Q)).reshape(Q.shape)

    def klDivergence(self, Q: ArrayLike) -> float:  # noqa: N802, N803
        """sum Q log Q + Q U - Q m, m being the kernels' messages of Q: up to a constant the
        divergence of Q from the CRF's distribution."""
        q = self._image(Q).astype(np.float64)
        energies = np.log(np.maximum(q, 1e-20)) + self._energies() - self._crf.messages(q)
        # a label of energy +inf has the probability 0 and adds nothing
        return float(np.multiply(q, energies, out=np.zeros_like(q), where=q != 0).sum())

    @property
    def _flat_shape(self) -> tuple[int, int]:
        return self._crf.labels, self._crf.height * self._crf.width

    def _energies(self) -> Floats:
        if self._unary is None:
            raise UsageError("no unary has been set; call setUnaryEnergy first")
        return self._image(self._unary)

    def _image(self, flat: ArrayLike) -> Floats:
        checked = checks.floats("Q", flat, self._flat_shape)
        return checked.reshape(-1, self._crf.height, self._crf.width)


class DenseCRF2D(DenseCRF):
    """A CRF over an image of w x h pixels; nvar counts them row after row."""

    def __init__(self, w: int, h: int, nlabels: int, *, threads: int = 1) -> None:
        self._setup(_whole("h", h, 1), _whole("w", w, 1), nlabels, threads)

    def addPairwiseGaussian(  # noqa: N802
        self,
        sxy: float | Sequence[float],
        compat: Weight,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel over positions of width sxy, a number or (x, y)."""
        _kernel_type(kernel)
        self._crf.add_gaussian(sxy, weight=compat, normalization=_normalization(normalization))

    def addPairwiseBilateral(  # noqa: N802
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: ArrayLike,
        compat: Weight,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel over positions and the colours of rgbim (h, w, 3)."""
        _kernel_type(kernel)
        how = _normalization(normalization)
        colours = checks.as_array("rgbim", rgbim)
        if colours.dtype == bool and not is_strict():
            colours = colours.view(np.uint8)
        self._crf.add_bilateral(sxy, srgb, colours, weight=compat, normalization=how)


def _whole(name: str, value: object, least: int) -> int:
    """A size as in the original: the fraction of a float is dropped."""
    if isinstance(value, float | np.floating) and math.isfinite(value) and not is_strict():
        value = int(value)
    return checks.count(name, value, least)


def _kernel_type(value: int) -> None:
    if value not in list(KernelType):
        raise UsageError(f"kernel is {value!r}; expected CONST_KERNEL, DIAG_KERNEL or FULL_KERNEL")


def _normalization(value: int) -> Normalization:
    if value not in list(NormalizationType):
        names = ", ".join(kind.name for kind in NormalizationType)
        raise UsageError(f"normalization is {value!r}; expected one of {names}")
    return _NAMES[value]
