"""Caffe's generator: a Mersenne Twister of which every raw 32-bit draw counts.

numpy's legacy ``RandomState(seed)`` is the same generator with the same seeding, so its raw
draws are the ones boost::mt19937 gives to Caffe.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TypeVar

import numpy as np

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
        self._state = np.random.RandomState(None if seed is None else seed & _MAX)

    def draw(self) -> int:
        """The next raw number, 0 to 2^32 - 1."""
        return int.from_bytes(self._state.bytes(4), "little")

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
