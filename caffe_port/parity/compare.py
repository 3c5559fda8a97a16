"""The one helper that compares blobs: what is there first (presence, shape, dtype, finiteness),
the values last."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffe_port.parity.responses import Refine
from caffe_port.parity.tolerance import EXTREME, PER_ELEMENT, mean_square_limit

Floats: TypeAlias = "NDArray[np.floating[Any]]"

#: Elements whose standard errors are computed from their own partial sums before a blob fails.
LOOKED_AT = 16


class Verdict(str, enum.Enum):
    """What became of one blob. Only FAIL fails a verification."""

    PASS = "pass"
    FAIL = "fail"
    RANDOM = "random"
    NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Exact:
    """The exact result of a layer on given numbers.

    Args:
        value: float64.
        sigma: standard error of a float32 computation of it, same shape.
        refine: better standard errors of chosen elements.
    """

    value: Floats
    sigma: Floats
    refine: Refine | None = None


@dataclass(frozen=True)
class Comparison:
    """One blob compared.

    Args:
        verdict: the outcome.
        reason: why it failed, or what is to be known about a pass; "" when there is nothing.
        shape: Caffe's shape, or the port's where nothing was recorded.
        peak: largest magnitude of the exact blob, extreme values left out.
        e_port, e_caffe: largest distance to the exact result of the layer on the numbers that the
            port's, or Caffe's, layer was given; None when not comparable.
        port_share, caffe_share: the error as a part of what correct rounding may reach; above 1 it
            is another result.
        distance: largest distance of the port's blob, of a run of the whole net, from Caffe's;
            None when not comparable.
        ulps: e_port in float32 units in the last place of the peak.
        where: index of the largest of the errors that decide, in Caffe's axis order.
        differing: places that differ, for blobs that must be equal.
        ties: how many places were decided by values that are equal within the bound.
    """

    verdict: Verdict
    reason: str = ""
    shape: tuple[int, ...] = ()
    peak: float | None = None
    e_port: float | None = None
    e_caffe: float | None = None
    port_share: float | None = None
    caffe_share: float | None = None
    distance: float | None = None
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

    @property
    def ratio(self) -> float | None:
        """e_port / e_caffe: how the port's rounding compares with that of one BLAS."""
        if self.e_port is None or not self.e_caffe:
            return None
        return self.e_port / self.e_caffe


def compare(
    port: Floats | None, port_exact: Exact | None, caffe: NDArray[np.float32], caffe_exact: Exact
) -> Comparison:
    """Compares a blob of real numbers by the rule of ``parity.tolerance``.

    Args:
        port: the port's blob, float32; None when the port has no such blob.
        port_exact: the exact result on the numbers that the port's layer was given.
        caffe: what Caffe recorded, float32. A recorded 4-D shape also fits a port's shape that
            differs from it by axes of length 1 only (old Caffe knows no other shapes).
        caffe_exact: the exact result on the numbers that Caffe's layer was given.
    """
    exact = None if port_exact is None else port_exact.value
    flaw = _form_flaw(port, np.float32, caffe, "port") or _form_flaw(
        exact, np.float64, caffe, "port's float64 run"
    )
    flaw = flaw or _form_flaw(caffe_exact.value, np.float64, caffe, "port's float64 run")
    if flaw or port is None or port_exact is None:
        return Comparison(Verdict.FAIL, flaw, caffe.shape)
    port = port.reshape(caffe.shape)
    extreme = np.abs(caffe) > EXTREME
    value = caffe_exact.value.reshape(caffe.shape)
    flaw = _value_flaw(port, value, caffe, extreme)
    if flaw:
        return Comparison(Verdict.FAIL, flaw, caffe.shape)
    of_port = _errors(port, port_exact, extreme)
    of_caffe = _errors(caffe, caffe_exact, extreme)
    peak = float(np.abs(np.where(extreme, 0.0, value)).max(initial=0.0))
    return _verdict(of_port, of_caffe, peak, caffe.shape)


@dataclass(frozen=True)
class _Errors:
    """Errors of one side: the largest, the share of the bound, and what exceeds it most."""

    largest: float
    share: float
    where: tuple[int, ...]
    words: str


def _errors(found: Floats, exact: Exact, extreme: NDArray[np.bool_]) -> _Errors:
    value, sigma = (part.reshape(found.shape) for part in (exact.value, exact.sigma))
    errors = np.abs(np.where(extreme, 0.0, found.astype(np.float64)) - np.where(extreme, 0, value))
    result = _in_sigmas(errors, sigma)
    if 1 < result.share < np.inf and exact.refine is not None:
        worst = np.argsort(-(errors / np.maximum(sigma, np.finfo(float).tiny)).reshape(-1))
        chosen = worst[:1]
        better = _refined(exact.refine, sigma, chosen)
        if errors.reshape(-1)[chosen[0]] <= PER_ELEMENT * better[0]:
            # each element takes a backward pass: where the worst fails, the others change nothing
            chosen = worst[:LOOKED_AT]
            better = np.append(better, _refined(exact.refine, sigma, chosen[1:]))
        # those that were not looked at are off by less; they gain as much as the least of these
        sigma = sigma * float((better / sigma.reshape(-1)[chosen]).min())
        sigma.reshape(-1)[chosen] = better
        result = _in_sigmas(errors, sigma)
    return result


def _refined(refine: Refine, sigma: Floats, chosen: NDArray[np.intp]) -> Floats:
    if not len(chosen):
        return np.empty(0)
    return np.maximum(refine(chosen), sigma.reshape(-1)[chosen])


def _in_sigmas(errors: Floats, sigma: Floats) -> _Errors:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors == 0, 0.0, errors / sigma)
    ratios = np.where(np.isnan(ratios), np.inf, ratios)
    largest = float(ratios.max(initial=0.0))
    mean_square = float(np.sqrt(np.mean(np.minimum(ratios, 1e9) ** 2))) if ratios.size else 0.0
    limit = mean_square_limit(ratios.size)
    where = first_index(ratios == ratios.max(initial=0.0)) if ratios.size else ()
    if largest / PER_ELEMENT >= mean_square / limit:
        words = f"{largest:.3g} standard errors at {list(where)}, allowed {PER_ELEMENT:g}"
        share = largest / PER_ELEMENT
    else:
        words = f"{mean_square:.3g} standard errors in the mean square, allowed {limit:.3g}"
        share = mean_square / limit
    return _Errors(float(errors.max(initial=0.0)), share, where, words)


def _verdict(port: _Errors, caffe: _Errors, peak: float, shape: tuple[int, ...]) -> Comparison:
    ulp = float(np.spacing(np.float32(peak)))
    result = Comparison(
        Verdict.PASS, "", shape, peak, port.largest, caffe.largest, port.share, caffe.share,
        ulps=port.largest / ulp,
    )  # fmt: skip
    if caffe.share > 1:
        reason = f"e_caffe is {_part(caffe.largest, peak)}: {caffe.words}: another result"
        return replace(result, verdict=Verdict.FAIL, where=caffe.where, reason=reason)
    if port.share > 1:
        reason = f"e_port is {_part(port.largest, peak)}: {port.words}: worse than float32 rounds"
        return replace(result, verdict=Verdict.FAIL, where=port.where, reason=reason)
    return result


def compare_equal(
    port: Floats | None,
    caffe: NDArray[np.float32],
    *,
    tied: NDArray[np.bool_] | None = None,
) -> Comparison:
    """Compares a blob that must be equal: labels, masks, parameters.

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


def _form_flaw(blob: Floats | None, dtype: type, caffe: NDArray[np.float32], whose: str) -> str:
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
    port: Floats,
    exact: Floats,
    caffe: NDArray[np.float32],
    extreme: NDArray[np.bool_],
) -> str:
    if np.isnan(caffe).any():
        return f"Caffe recorded {int(np.isnan(caffe).sum())} NaN: nothing to compare the port with"
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


def _relative(error: float | None, peak: float | None) -> float | None:
    if error is None or peak is None:
        return None
    return error / peak if peak else (0.0 if error == 0 else float("inf"))


def _part(error: float, peak: float) -> str:
    return f"{error / peak:.2e} of the peak" if peak else f"{error:.2e} (the exact blob is 0)"
