"""The C library's generator, from which std::random_shuffle draws."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from typing import TypeVar

T = TypeVar("T")


class CLibraryRandom:
    """glibc's rand() as a process starts with it: Caffe never seeds it, so its runs are alike.

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
