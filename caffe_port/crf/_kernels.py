"""Kernels of the CRF: their arguments are checked, and those over positions are cached."""

from __future__ import annotations

import numbers
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf._lattice import Kernel
from caffe_port.errors import UsageError

Normalization = Literal["none", "before", "after", "symmetric"]

# A lattice over positions takes some 36 bytes a pixel, 6 MB for 500 x 375. VOC's images come in
# some dozens of sizes, most of them in three or four.
KEPT = 8
MOST_KEPT = 2**23  # pixels of all cached kernels, some 300 MB

_Positions = tuple[int, int, tuple[float, ...], Normalization, bool]
_kept: OrderedDict[_Positions, Kernel] = OrderedDict()  # the latest last
_keeping = threading.Lock()


def position_kernel(
    height: int,
    width: int,
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
) -> Kernel:
    """A kernel over positions; the last few are cached.

    Raises:
        UsageError: the widths are too small for the size.
    """
    key = (height, width, widths, normalization, exact)
    with _keeping:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    sizes = np.array(widths, np.float32)
    kernel = _built(lambda: Kernel.of_image(height, width, sizes, None, None, normalization, exact))
    if height * width <= MOST_KEPT:
        with _keeping:
            _kept[key] = kernel
            while len(_kept) > KEPT or sum(k.height * k.width for k in _kept.values()) > MOST_KEPT:
                _kept.popitem(last=False)
    return kernel


def image_kernel(
    image: NDArray[Any],
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
    threads: int,
) -> Kernel:
    """A kernel over positions and the colours of an image (H, W, 3), uint8 or float32.

    Raises:
        UsageError: the widths are too small for the image.
    """
    sizes = np.array(widths, np.float32)
    height, width = image.shape[:2]
    as_bytes = image if image.dtype == np.uint8 else None
    as_floats = None if image.dtype == np.uint8 else image
    return _built(
        lambda: Kernel.of_image(
            height, width, sizes, as_bytes, as_floats, normalization, exact, threads
        )
    )


def feature_kernel(
    rows: NDArray[np.float32], normalization: Normalization, exact: bool, threads: int
) -> Kernel:
    """A kernel over features (H, W, D).

    Raises:
        UsageError: features are too large.
    """
    return _built(lambda: Kernel.of_features(rows, normalization, exact, threads))


def _built(build: Callable[[], Kernel]) -> Kernel:
    try:
        return build()
    except ArithmeticError as error:
        raise UsageError(f"the widths are too small for this image: {error}") from error
    except ValueError as error:
        raise UsageError(f"no lattice can be built for this image: {error}") from error
    except RuntimeError as error:
        raise no_threads(error) from error


def no_threads(error: RuntimeError) -> UsageError:
    """The error when the system gives fewer threads than a call asked for."""
    return UsageError(f"no more threads can be started ({error}): ask for fewer")


Floats = NDArray[np.float32]

MOST_DIMENSIONS = 16
MOST_PIXELS = 2**31 // 3 - 20  # each has three vertices over positions, in 32-bit numbers
NORMALIZATIONS = ("none", "before", "after", "symmetric")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def count(name: str, value: object, least: int) -> int:
    """An integer of at least ``least`` that fits 32 bits; UsageError otherwise."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and least <= int(value) < 2**31:  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload, no-any-return]
    raise UsageError(f"{name} is {value!r}; expected an integer of at least {least}")


def number(name: str, value: object, *, positive: bool = False) -> float:
    """A finite real number in the range of float32; UsageError otherwise."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:  # an integer beyond a double
            result = np.inf
        if abs(result) <= FLOAT32_MAX and (not positive or np.float32(result) > 0):
            return result
    kind = "positive number" if positive else "finite number"
    raise UsageError(f"{name} is {value!r}; expected a {kind} in the range of float32")


def widths(name: str, value: float | Sequence[float], length: int) -> tuple[float, ...]:
    """A positive width for each of length axes, or one for all; UsageError otherwise."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, numbers.Real):
        return (number(name, value, positive=True),) * length
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise UsageError(f"{name} is {value!r}; expected a positive number or {length} of them")
    if len(value) != length:
        raise UsageError(f"{name} has {len(value)} numbers; expected one, or {length}")
    return tuple(number(f"{name}[{i}]", item, positive=True) for i, item in enumerate(value))


def floats(name: str, value: ArrayLike, shape: tuple[int | str, ...]) -> Floats:
    """A contiguous float32 array of the shape, in which a str is any size but 0.

    float64 is converted. Infinities and NaN are left for ``finite`` or ``unary_energies``.
    """
    array = as_array(name, value)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise UsageError(f"{name} has dtype {array.dtype}; expected float32 or float64")
    fits = array.ndim == len(shape) and all(
        found > 0 if isinstance(wanted, str) else found == wanted
        for found, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = f"({', '.join(map(str, shape))})"
        raise UsageError(f"{name} has shape {array.shape}; expected {wanted}, nothing empty")
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def as_array(name: str, value: object) -> NDArray[Any]:
    """An array of any kind; UsageError where numpy cannot make one."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"{name} is not an array: {str(error).splitlines()[0]}") from error


def finite(name: str, array: Floats) -> Floats:
    """The array, if every element is finite; UsageError naming the first that is not."""
    good = np.isfinite(array)
    if not good.all():
        where = tuple(map(int, np.unravel_index(int(np.argmin(good)), array.shape)))
        raise UsageError(f"{name}{list(where)} is {array[where]}; every element must be finite")
    return array


def unary_energies(name: str, value: ArrayLike, shape: tuple[int, int, int]) -> Floats:
    """Energies (labels, H, W): finite, or +inf to rule a label out, but not all of a pixel's."""
    array = floats(name, value, shape)
    if np.isfinite(array.min()) and np.isfinite(array.max()):
        return array
    finite(name, np.where(array == np.inf, np.float32(0), array))
    ruled_out = np.isinf(array).all(axis=0)
    if ruled_out.any():
        y, x = np.argwhere(ruled_out)[0]
        raise UsageError(f"{name}[:, {y}, {x}] is infinite: every label of the pixel is ruled out")
    return array


def colours(
    name: str, value: ArrayLike, height: int, width: int
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Colours (H, W, 3), contiguous uint8 or finite float32; UsageError otherwise."""
    array = as_array(name, value)
    if array.dtype.newbyteorder("=") not in (np.uint8, np.float32):
        raise UsageError(f"{name} has dtype {array.dtype}; expected uint8 or float32")
    if array.shape != (height, width, 3):
        why = _why_no_colours(name, array.shape, height, width)
        raise UsageError(f"{name} has shape {array.shape}; expected {(height, width, 3)}{why}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return finite(name, np.ascontiguousarray(array, dtype=np.float32))


def _why_no_colours(name: str, shape: tuple[int, ...], height: int, width: int) -> str:
    """The likely mistake behind a shape that is not (H, W, 3), for a message."""
    if shape in ((height, width), (height, width, 1)):
        grey = name if len(shape) == 2 else f"{name}[:, :, 0]"
        return f": a grey image; np.stack([{grey}] * 3, axis=2) gives it three equal channels"
    if shape == (height, width, 4):
        return f": with opacity as fourth channel; take {name}[:, :, :3]"
    if shape == (3, height, width):
        return f": its channels come first; take {name}.transpose(1, 2, 0)"
    if shape == (width, height, 3):
        return ": height and width are exchanged"
    return ""


def features(name: str, value: ArrayLike, height: int, width: int) -> Floats:
    """Features (H, W, D), finite, of at most 16 dimensions; UsageError otherwise."""
    array = finite(name, floats(name, value, (height, width, "D")))
    if array.shape[2] > MOST_DIMENSIONS:
        raise UsageError(
            f"{name} has {array.shape[2]} dimensions; the lattice takes up to {MOST_DIMENSIONS}"
        )
    return array


def normalization(value: object) -> Normalization:
    """One of the four normalisations; UsageError otherwise."""
    if value in NORMALIZATIONS:
        return value  # type: ignore[return-value]  # one of the literals
    raise UsageError(f"normalization is {value!r}; expected one of {', '.join(NORMALIZATIONS)}")


def compatibility(name: str, value: object, labels: int) -> float | Floats:
    """A weight as compiled code takes it: a number, or a symmetric matrix of costs."""
    if isinstance(value, numbers.Real):
        return number(name, value)
    array = as_array(name, value)
    if array.ndim == 0 and array.dtype.kind in "iuf":
        return number(name, array.item())
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise UsageError(
            f"{name} is {type(value).__name__} {array.shape} of {array.dtype}; expected a number, "
            f"a vector of {labels} or a matrix {labels} x {labels}"
        )
    wanted = (labels,) * array.ndim
    checked = finite(name, floats(name, array.astype(np.float64), wanted))
    if checked.ndim == 1:
        return np.diag(checked)
    half = np.float32(0.5) * checked  # before the sum, which then stays in range
    return half + half.T
