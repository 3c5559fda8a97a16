"""Caffe's random numbers: generators and distributions."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class CLibraryRandom:
    """glibc's rand(), from which std::random_shuffle draws, in the state at a process's start.

    Caffe never seeds it, so all runs draw the same numbers.

    Source: glibc random_r.c, TYPE_3.
    """

    def __init__(self) -> None:
        state = [1]
        for _ in range(30):
            state.append(16807 * state[-1] % (2**31 - 1))
        self._state = deque([*state, *state[:3]], maxlen=34)
        for _ in range(310):
            self._next()

    def _next(self) -> int:
        value = (self._state[-31] + self._state[-3]) % 2**32
        self._state.append(value)
        return value

    def rand(self) -> int:
        """A number from 0 to 2^31 - 1."""
        return self._next() >> 1

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Reorders ``items`` in place as libstdc++'s random_shuffle does."""
        for i in range(1, len(items)):
            other = self.rand() % (i + 1)
            items[i], items[other] = items[other], items[i]


_MAX = 2**32 - 1


class CaffeRandom:
    """Caffe's generator, a Mersenne Twister, by its raw 32-bit draws.

    numpy's legacy ``RandomState(seed)`` is the same generator with the same seeding as Caffe's
    boost::mt19937. Caffe has one per thread, from which fillers, data layers and dropout draw. Here
    a net draws from the one it was built under, see ``seeded``; without one, fillers and dropout
    use torch's generator, and data layers are seeded by the operating system.

    Args:
        seed: as given to random_seed or drawn from another stream; None seeds from the
            operating system, as Caffe does without a random_seed.
    Source: BVLC/caffe common.cpp, Caffe::RNG; util/rng.hpp, shuffle.
    Examples:
        >>> from caffe_port.data import CaffeRandom
        >>> CaffeRandom(1).draw()
        1791095845
    """

    def __init__(self, seed: int | None = None) -> None:
        self.reseed(seed)

    def reseed(self, seed: int | None) -> None:
        """Restarts the stream for all that share it (Caffe's set_random_seed)."""
        self._state = np.random.RandomState(None if seed is None else seed & _MAX)

    def state(self) -> tuple[npt.NDArray[np.uint32], int]:
        """The state: the twister's 624 words, and the place in them."""
        state = self._state.get_state(legacy=True)
        assert isinstance(state, tuple)
        return np.asarray(state[1], np.uint32), int(state[2])

    def set_state(self, words: npt.NDArray[np.uint32], place: int) -> None:
        """Continues from a ``state``. Raises ValueError for other than 624 words."""
        self._state.set_state(("MT19937", words, place, 0, 0.0))

    def draw(self) -> int:
        """The next raw number, 0 to 2^32 - 1."""
        return int.from_bytes(self._state.bytes(4), "little")

    def draws(self, count: int) -> npt.NDArray[np.uint32]:
        """The next ``count`` raw numbers."""
        if count == 0:
            return np.empty(0, np.uint32)  # numpy would draw even for no bytes
        return np.frombuffer(self._state.bytes(4 * count), "<u4")

    def rand(self, n: int) -> int:
        """A number below ``n`` as Caffe's data transformer draws it: draw % n."""
        return self.draw() % n

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Reorders ``items`` in place: Fisher-Yates from the end with unbiased integers."""
        for last in range(len(items) - 1, 0, -1):
            other = self._uniform(last)
            items[last], items[other] = items[other], items[last]

    def _uniform(self, largest: int) -> int:
        """boost::uniform_int over 0..largest: equal buckets, draws beyond the last repeated."""
        bucket, rest = divmod(_MAX, largest + 1)
        if rest == largest:
            bucket += 1
        while True:
            value = self.draw() // bucket
            if value <= largest:
                return value


_current: ContextVar[CaffeRandom | None] = ContextVar("caffe_random", default=None)


@contextlib.contextmanager
def seeded(random: CaffeRandom) -> Iterator[CaffeRandom]:
    """Nets built in the block draw from ``random``, then and whenever they run, as in Caffe.

    A solver with a random_seed makes one generator and builds its train net and its test nets
    under it, in this order; fillers and data layers draw layer by layer.

    Examples:
        >>> import caffe_port as cp
        >>> from caffe_port.data import CaffeRandom, seeded
        >>> with seeded(CaffeRandom(1701)):  # fillers draw what Caffe draws under random_seed: 1701
        ...     net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
    """
    token = _current.set(random)
    try:
        yield random
    finally:
        _current.reset(token)


def current() -> CaffeRandom | None:
    """The generator that nets are being built under, or None."""
    return _current.get()


# Arrays of random numbers, equal to boost's with Caffe's generator, bit for bit in float32.

Floats = npt.NDArray[np.float32]
Heights = npt.NDArray[np.float64]
_Table = tuple[Floats, Heights]
_UNIT = np.float32(2.0**-32)


def uniform(random: CaffeRandom, count: int, low: float, high: float) -> Floats:
    """Numbers from ``low`` to ``high``, both included.

    Source: BVLC/caffe math_functions.cpp, caffe_rng_uniform; boost uniform_real.
    """
    first = np.float32(low)
    end = np.nextafter(np.float32(high), np.float32(np.inf))
    made = np.empty(0, np.float32)
    while len(made) < count:
        # a draw that rounds up to the end is repeated
        values = random.draws(count - len(made)).astype(np.float32) * _UNIT * (end - first) + first
        made = np.concatenate([made, values[values < end]])
    return made


def bernoulli(random: CaffeRandom, count: int, chance: float | np.float32) -> npt.NDArray[np.bool_]:
    """True with probability ``chance``; no draws where it is 0.

    Args:
        chance: a np.float32 is compared in float32, a float in float64, as boost's template does.
    Source: BVLC/caffe math_functions.cpp, caffe_rng_bernoulli; boost bernoulli_distribution.
    """
    if chance == 0:
        return np.zeros(count, np.bool_)
    kind = np.float32 if isinstance(chance, np.float32) else np.float64
    highest = kind(chance) * kind(2**32 - 1)
    kept: npt.NDArray[np.bool_] = np.less_equal(random.draws(count).astype(kind), highest)
    return kept


def normal(random: CaffeRandom, count: int, mean: float, std: float) -> Floats:
    """Gaussian numbers by the ziggurat of boost 1.62 and later.

    Source: BVLC/caffe math_functions.cpp, caffe_rng_gaussian; boost normal_distribution.
    """
    made = [_unit_normal(random, count)]
    # each number takes at least one draw, so a block never draws too many
    while (missing := count - sum(map(len, made))) > 0:
        made.append(_unit_normal(random, missing))
    return np.concatenate(made) * np.float32(std) + np.float32(mean)


def _unit_normal(random: CaffeRandom, draws: int) -> Floats:
    """The numbers that ``draws`` draws give, with as many more as the last number needs."""
    widths, _ = _normal_table()
    raw = random.draws(draws)
    strip = (raw & 255) >> 1
    sign = ((raw & 1).astype(np.float32) * 2) - 1
    x = (raw >> 8).astype(np.float32) * np.float32(2.0**-24) * widths[strip]
    values, used = x * sign, np.ones(draws, np.bool_)
    place = 0  # draws before it are used
    for slow in np.flatnonzero(x >= widths[strip + 1]):
        if slow < place:
            continue  # another number used this draw
        stream = _Stream(raw, int(slow) + 1, random)
        found = _slow_normal(stream, int(strip[slow]), x[slow])
        used[slow] = found is not None
        values[slow] = sign[slow] * (found if found is not None else 1)
        used[slow + 1 : stream.place] = False
        place = stream.place
    numbers: Floats = values[used]
    return numbers


class _Stream:
    """Draws from a block, then from the generator itself."""

    def __init__(self, block: npt.NDArray[np.uint32], place: int, random: CaffeRandom) -> None:
        self.block, self.place, self.random = block, place, random

    def draw(self) -> int:
        self.place += 1
        if self.place <= len(self.block):
            return int(self.block[self.place - 1])
        return self.random.draw()

    def unit(self) -> np.float32:
        """boost's uniform_01: below 1."""
        while True:
            value = np.float32(self.draw()) * _UNIT
            if value < 1:
                return value


def _slow_normal(stream: _Stream, strip: int, x: np.float32) -> np.float32 | None:
    """The size of a number in the outer part of a strip, or None where it is rejected."""
    if strip == 0:
        return _tail(stream)
    accepted = _height(stream, _normal_table()[1], strip) < np.float32(math.exp(-float(x * x) / 2))
    return x if accepted else None


def _tail(stream: _Stream) -> np.float32:
    start = _normal_table()[0][1]
    while True:
        x, y = _exponential(stream) / start, _exponential(stream)
        if 2 * y > x * x:
            return np.float32(x + start)


def _exponential(stream: _Stream) -> np.float32:
    """boost's unit_exponential_distribution: a ziggurat of its own."""
    widths, heights = _exponential_table()
    shift = np.float32(0)
    while True:
        raw = stream.draw()
        strip = raw & 255
        x = np.float32(raw >> 8) * np.float32(2.0**-24) * widths[strip]
        if x < widths[strip + 1]:
            return np.float32(shift + x)
        if strip == 0:
            shift = np.float32(shift + widths[1])  # the tail has the shape of the whole
        elif _height(stream, heights, strip) < np.float32(math.exp(-float(x))):
            return np.float32(shift + x)


def _height(stream: _Stream, heights: Heights, strip: int) -> np.float32:
    """A height drawn within a strip."""
    step = np.float32(heights[strip + 1] - heights[strip])
    return np.float32(np.float32(heights[strip]) + stream.unit() * step)


Curve = Callable[[float], float]


def _table(strips: int, start: float, tail: float, density: Curve, inverse: Curve) -> _Table:
    """Strips of equal area under a falling density.

    Args:
        start: where the lowest strip ends and the tail begins.
        tail: the area beyond it.
        density, inverse: y of x, and x of y.
    Returns:
        Widths and heights of the strips, the lowest first, and where the top is.
    Source: Marsaglia and Tsang, The Ziggurat Method for Generating Random Variables, 2000.
    """
    area = start * density(start) + tail
    widths = [area / density(start), start]
    while len(widths) < strips:
        widths.append(inverse(area / widths[-1] + density(widths[-1])))
    heights = [0.0, *map(density, widths[1:]), density(0)]
    return np.array([*widths, 0.0], np.float32), np.array(heights)


@cache
def _normal_table() -> _Table:
    start = 3.4426198558966521214
    tail = math.sqrt(math.pi / 2) * math.erfc(start / math.sqrt(2))
    return _table(
        128, start, tail, lambda x: math.exp(-x * x / 2), lambda y: math.sqrt(-2 * math.log(y))
    )


@cache
def _exponential_table() -> _Table:
    start = 7.69711747013104972
    return _table(256, start, math.exp(-start), lambda x: math.exp(-x), lambda y: -math.log(y))
