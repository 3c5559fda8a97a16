"""The one helper that compares blobs: what is there first (presence, shape, dtype, finiteness),
the values last."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caffe_port.parity.tolerance import EXTREME, NET, Tolerance


class Verdict(str, enum.Enum):
    """What became of one blob. Only FAIL fails a verification."""

    PASS = "pass"
    FAIL = "fail"
    RANDOM = "random"
    NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Comparison:
    """One blob judged.

    Args:
        verdict: the outcome.
        reason: why it failed, or what is to be known about a pass; "" when there is nothing.
        shape: Caffe's shape, or the port's where nothing was recorded.
        peak: largest magnitude of the exact blob, extreme values left out.
        e_port, e_caffe: largest distance to the exact blob; None when not comparable.
        ulps: e_port in float32 units in the last place of the peak.
        where: index of the largest of the errors that decide, in Caffe's axis order.
        differing: places that differ, for blobs that must be equal.
        ties: how many of them are ties of Caffe's own scores.
    """

    verdict: Verdict
    reason: str = ""
    shape: tuple[int, ...] = ()
    peak: float | None = None
    e_port: float | None = None
    e_caffe: float | None = None
    ulps: float | None = None
    where: tuple[int, ...] | None = None
    differing: int | None = None
    ties: int = 0

    @property
    def port_relative(self) -> float | None:
        """e_port as a part of the peak."""
        return _relative(self.e_port, self.peak)

    @property
    def caffe_relative(self) -> float | None:
        """e_caffe as a part of the peak."""
        return _relative(self.e_caffe, self.peak)


def compare(
    port: NDArray[np.floating] | None,
    exact: NDArray[np.floating] | None,
    caffe: NDArray[np.float32],
    tolerance: Tolerance = NET,
) -> Comparison:
    """Judges a blob of real numbers by the rule of ``parity.tolerance``.

    Args:
        port: the port's blob, float32; None when the port has no such blob.
        exact: the port's blob of a float64 run, same shape.
        caffe: what Caffe recorded, float32. A recorded 4-D shape also fits a port's shape that
            differs from it by axes of length 1 only (old Caffe knows no other shapes).
        tolerance: which row of the table holds.
    """
    flaw = _form_flaw(port, np.float32, caffe, "port") or _form_flaw(
        exact, np.float64, caffe, "port's float64 run"
    )
    if flaw or port is None or exact is None:
        return Comparison(Verdict.FAIL, flaw, caffe.shape)
    port, exact = port.reshape(caffe.shape), exact.reshape(caffe.shape)
    extreme = np.abs(caffe) > EXTREME
    flaw = _value_flaw(port, exact, caffe, extreme)
    if flaw:
        return Comparison(Verdict.FAIL, flaw, caffe.shape)
    kept = np.where(extreme, 0.0, exact)
    port_errors = np.abs(np.where(extreme, 0.0, port.astype(np.float64)) - kept)
    caffe_errors = np.abs(np.where(extreme, 0.0, caffe.astype(np.float64)) - kept)
    return _judge(port_errors, caffe_errors, float(np.abs(kept).max(initial=0.0)), tolerance)


def compare_equal(
    port: NDArray[np.floating] | None,
    caffe: NDArray[np.float32],
    *,
    tied: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Judges a blob that must be equal: labels, masks, parameters.

    Args:
        port: the port's blob, float32; None when the port has no such blob.
        caffe: what Caffe recorded, float32.
        tied: places, in Caffe's shape, where Caffe's own scores tie within its error; they may
            differ and are counted.
    """
    flaw = _form_flaw(port, np.float32, caffe, "port")
    if flaw or port is None:
        return Comparison(Verdict.FAIL, flaw, caffe.shape)
    port = port.reshape(caffe.shape)
    differ = port != caffe
    forgiven = np.zeros_like(differ) if tied is None else differ & tied
    left, ties = differ & ~forgiven, int(forgiven.sum())
    reason = f"{ties} places differ, all ties of the scores" if ties else ""
    result = Comparison(
        Verdict.PASS,
        reason,
        caffe.shape,
        float(np.abs(caffe).max(initial=0.0)),
        differing=int(differ.sum()),
        ties=ties,
    )
    if not left.any():
        return result
    where = first_index(left)
    return replace(
        result,
        verdict=Verdict.FAIL,
        where=where,
        reason=f"{int(left.sum())} of {differ.size} places differ, the first at "
        f"{list(where)}: {float(port[where]):g}, Caffe {float(caffe[where]):g}",
    )


def first_index(places: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true place, in row order."""
    return tuple(int(i) for i in np.unravel_index(int(places.argmax()), places.shape))


def _form_flaw(
    blob: NDArray[np.floating] | None, dtype: type, caffe: NDArray[np.float32], whose: str
) -> str:
    if blob is None:
        return f"the {whose} has no such blob"
    if not _fits(blob.shape, caffe.shape):
        return f"the {whose} has shape {list(blob.shape)}, Caffe {list(caffe.shape)}"
    if blob.dtype != dtype:
        return f"the {whose} has dtype {blob.dtype}, expected {np.dtype(dtype)}"
    if caffe.dtype != np.float32:
        return f"the recording has dtype {caffe.dtype}, expected float32"
    return ""


def _fits(port: tuple[int, ...], caffe: tuple[int, ...]) -> bool:
    """Equal, or equal but for axes of length 1 where Caffe reported its old four axes."""
    if port == caffe:
        return True
    return len(caffe) == 4 and [n for n in port if n != 1] == [n for n in caffe if n != 1]


def _value_flaw(
    port: NDArray[np.floating],
    exact: NDArray[np.floating],
    caffe: NDArray[np.float32],
    extreme: NDArray[np.bool_],
) -> str:
    if np.isnan(caffe).any():
        return f"Caffe recorded {int(np.isnan(caffe).sum())} NaN: no answer to hold the port to"
    if not np.array_equal(port[extreme], caffe[extreme]):
        where = first_index(extreme & (port != caffe))
        return (
            f"at {list(where)} Caffe has the extreme value {caffe[where]:g}, port {port[where]:g}"
        )
    for whose, blob in (("port", port), ("port's float64 run", exact)):
        odd = ~np.isfinite(blob) | (np.abs(blob) > EXTREME)
        if (odd != extreme).any():
            where = first_index(odd != extreme)
            return f"the {whose} has {blob[where]:g} at {list(where)}, Caffe {caffe[where]:g}"
    return ""


def _judge(
    port_errors: NDArray[np.float64],
    caffe_errors: NDArray[np.float64],
    peak: float,
    tolerance: Tolerance,
) -> Comparison:
    e_port, e_caffe = (float(e.max(initial=0.0)) for e in (port_errors, caffe_errors))
    ulp = float(np.spacing(np.float32(peak)))
    result = Comparison(
        Verdict.PASS, "", port_errors.shape, peak, e_port, e_caffe, ulps=e_port / ulp
    )
    allowed = tolerance.port_allowed(e_caffe, peak, ulp)
    if e_caffe > tolerance.caffe * peak:
        return replace(
            result,
            verdict=Verdict.FAIL,
            where=_largest(caffe_errors),
            reason=f"e_caffe is {_part(e_caffe, peak)}, more than float32 explains "
            f"({tolerance.caffe:.0e}): another result",
        )
    if e_port > allowed:
        return replace(
            result,
            verdict=Verdict.FAIL,
            where=_largest(port_errors),
            reason=f"e_port is {e_port:.2e}, allowed {allowed:.2e}: worse rounding than Caffe's",
        )
    return result


def _largest(errors: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))


def _relative(error: float | None, peak: float | None) -> float | None:
    if error is None or peak is None:
        return None
    return error / peak if peak else (0.0 if error == 0 else float("inf"))


def _part(error: float, peak: float) -> str:
    return f"{error / peak:.2e} of the peak" if peak else f"{error:.2e} (the exact blob is 0)"
