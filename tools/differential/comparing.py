"""Compares arrays that `verify` does not compare: loosely, or by conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
LOOSE = 1e-3  # of the peak: larger errors are another computation, not another rounding
TIGHT = 1e-5  # of the peak: the same computation in another order
_FEW = 0.05  # share of places that may be off, where a kink is met from the other side
_SPREAD = 8.0  # times the deviation of a run whose weights were changed in their last bits
_ULPS = 1e-5  # of the peak, for runs that the change leaves unmoved
CHAOTIC = 0.01  # of the peak: where the changed run is that far off, nothing can be compared


def form_difference(mine: Floats | None, caffe: Floats) -> str:
    """How presence or shape differ; '' where they do not.

    Axes of length 1 do not count where Caffe reports its old four.
    """
    if mine is None:
        return "the port has no such array"
    if mine.shape == caffe.shape:
        return ""
    if caffe.ndim == 4 and [n for n in mine.shape if n != 1] == [n for n in caffe.shape if n != 1]:
        return ""
    return f"shape {list(mine.shape)}, Caffe {list(caffe.shape)}"


def difference(mine: Floats | None, caffe: Floats, tolerance: float, floor: float = 0.0) -> str:
    """How an array differs by more than rounding and kinks can explain; '' where it does not.

    Args:
        mine: through the port's pycaffe; None where it has no such array.
        caffe: what it is compared with.
        tolerance: part of the peak, ``LOOSE`` or ``TIGHT``.
        floor: what is always allowed: the numbers may be what is left of larger ones.
    """
    if mine is None or form_difference(mine, caffe):
        return form_difference(mine, caffe)
    a, b = mine.reshape(caffe.shape).astype(np.float64), caffe.astype(np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return f"{int(np.isnan(a).sum())} NaN, Caffe has {int(np.isnan(b).sum())}"
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return "infinities at other places"
    errors = np.abs(np.where(odd, 0, a) - np.where(odd, 0, b))
    peak = float(np.abs(np.where(odd, 0, b)).max(initial=0.0))
    far = errors > tolerance * peak + floor + 1e-9
    if far.sum() <= max(min(2, far.size // 4), _FEW * far.size):
        return ""
    return f"{int(far.sum())} of {far.size} values off by up to {errors.max():.3g}, peak {peak:.3g}"


def conditioned_difference(mine: Floats | None, caffe: Floats, moved: Sequence[Floats]) -> str:
    """How weights of a training differ by more than a change of their last bits does.

    Args:
        mine: the port's.
        caffe: Caffe's.
        moved: the port's, of runs that started from weights changed in their last bits.
    """
    if mine is None or form_difference(mine, caffe):
        return form_difference(mine, caffe)
    a, b = mine.reshape(caffe.shape).astype(np.float64), caffe.astype(np.float64)
    peak = float(np.abs(b).max(initial=0.0))
    spread = max(float(np.abs(run.reshape(a.shape) - a).max(initial=0.0)) for run in moved)
    allowed = _SPREAD * spread + _ULPS * peak + 1e-9
    error = float(np.abs(a - b).max(initial=0.0))
    if error <= allowed:
        return ""
    return f"off by {error:.3g}, allowed {allowed:.3g}, peak {peak:.3g}"


def is_chaotic(mine: Floats, moved: Sequence[Floats]) -> bool:
    """Whether the last bits decide the result, so that it cannot be compared."""
    if not all(np.isfinite(run).all() for run in (mine, *moved)):
        return True
    peak = float(np.abs(mine).max(initial=0.0))
    spread = max(float(np.abs(mine - run).max(initial=0.0)) for run in moved)
    return spread > CHAOTIC * peak + 1e-6


def identical(mine: Mapping[str, Any], caffe: Mapping[str, Any]) -> bool:
    """Whether all of Caffe's arrays of numbers are the port's too, bit for bit."""
    return all(
        name in mine and np.array_equal(mine[name].reshape(-1), values.reshape(-1))
        for name, values in caffe.items()
        if values.dtype.kind == "f"
    )


def has_nan(arrays: Mapping[str, Any]) -> bool:
    """Whether any array of numbers has a NaN."""
    return any(value.dtype.kind == "f" and np.isnan(value).any() for value in arrays.values())
