"""Caffe's generator: a Mersenne Twister of which every raw 32-bit draw counts.

numpy's legacy ``RandomState(seed)`` is the same generator with the same seeding, so its raw
draws are the ones boost::mt19937 gives to Caffe.

Caffe has one such generator per thread, from which fillers, data layers and dropout draw. Here a
net draws from the one it was built under (``with seeded(CaffeRandom(seed)): ...``); without one,
fillers and dropout use torch's generator and data layers seed themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableSequence
from contextvars import ContextVar
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
_MAX = 2**32 - 1


class CaffeRandom:
    """The stream of one Caffe generator.

    Args:
        seed: as given to random_seed or drawn from another stream; None takes one from the
            operating system, as Caffe does without a random_seed.
    Source: BVLC/caffe common.cpp, Caffe::RNG; util/rng.hpp, shuffle.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.reseed(seed)

    def reseed(self, seed: int | None) -> None:
        """Starts the stream anew, for all who hold it (Caffe's set_random_seed)."""
        self._state = np.random.RandomState(None if seed is None else seed & _MAX)

    def state(self) -> tuple[npt.NDArray[np.uint32], int]:
        """Where the stream stands: the twister's 624 words, and the place in them."""
        state = self._state.get_state(legacy=True)
        assert isinstance(state, tuple)
        return np.asarray(state[1], np.uint32), int(state[2])

    def set_state(self, words: npt.NDArray[np.uint32], place: int) -> None:
        """Goes where ``state`` was taken. Raises ValueError for other than 624 words."""
        self._state.set_state(("MT19937", words, place, 0, 0.0))

    def draw(self) -> int:
        """The next raw number, 0 to 2^32 - 1."""
        return int.from_bytes(self._state.bytes(4), "little")

    def draws(self, count: int) -> npt.NDArray[np.uint32]:
        """The next ``count`` raw numbers."""
        if count == 0:
            return np.empty(0, np.uint32)  # numpy would draw for no bytes at all
        return np.frombuffer(self._state.bytes(4 * count), "<u4")

    def rand(self, n: int) -> int:
        """A number below ``n``, the way Caffe's data transformer takes it: draw % n."""
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
    """Nets built inside draw from ``random``, then and whenever they run, as Caffe's would.

    A solver with a random_seed makes one generator and builds its train net and its test nets
    under it, in this order; fillers and data layers draw layer by layer.
    """
    token = _current.set(random)
    try:
        yield random
    finally:
        _current.reset(token)


def current() -> CaffeRandom | None:
    """The generator that nets are being built under, or None."""
    return _current.get()
