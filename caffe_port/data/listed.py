"""The lines of a list in the order in which a data layer takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from caffe_port.data import bad_images
from caffe_port.data.pictures import PathLike
from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import DataError, UsageError, option


class Numbered(Protocol):
    """A line that knows its number in the list, from 1."""

    @property
    def number(self) -> int: ...


L = TypeVar("L", bound=Numbered)
T = TypeVar("T")


class Listed(Generic[L]):
    """Goes through lines, round and round.

    Args:
        source: the list's name.
        lines: of it.
        order: shuffles them at the start and at each of their ends; None keeps their order.
        skip: how many are passed over at the start.
    Raises:
        UsageError: ``skip`` passes over all of them.
    """

    def __init__(
        self, source: PathLike, lines: list[L], order: CaffeRandom | None, skip: int = 0
    ) -> None:
        self._source, self._order, self._place = source, order, skip
        self._passed_over = bad_images.current()
        self._lines = {line.number: line for line in lines}
        self._numbers = list(self._lines)
        if order is not None:
            order.shuffle(self._numbers)
        if skip >= len(lines):
            raise UsageError(f"{source}: rand_skip passes over all of its {len(lines)} lines")

    @property
    def current(self) -> L:
        """The line that is next."""
        return self._lines[self._numbers[self._place]]

    def advance(self) -> None:
        """Goes to the line after, at the end to the first of a new order."""
        self._place += 1
        if self._place == len(self._numbers):
            self._place = 0
            if self._order is not None:
                self._order.shuffle(self._numbers)

    def read(self, reading: Callable[[L], T]) -> tuple[L, T]:
        """Reads the line that is next; inside ``passing_over``, the next that can be read.

        Raises:
            DataError: it cannot be read, or none can.
        """
        for _ in range(2 * len(self._numbers)):  # a new order may begin on the way
            try:
                return self.current, reading(self.current)
            except DataError as error:
                if self._passed_over is None:
                    raise
                self._passed_over.note(str(error))
                self.advance()
        raise DataError(f"{self._source}: none of its {len(self._numbers)} images can be used")

    def state(self) -> tuple[list[int], int]:
        """The present order, as the lines' numbers in the list, and the place in it."""
        return list(self._numbers), self._place

    def set_state(self, numbers: Sequence[int], place: int) -> None:
        """Goes where another one was.

        Raises:
            UsageError: the list has other lines now.
        """
        count = len(self._numbers)
        if sorted(numbers) != sorted(self._numbers) or not 0 <= place < count:
            without = option("keeps_run_state", False)
            raise UsageError(
                f"{self._source}: the list has changed since the snapshot: {count} lines, "
                f"{len(numbers)} then" + (f"; {without} starts it again" if without else "")
            )
        self._numbers, self._place = list(numbers), place


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Puts the place that names a picture, such as a list and its line, before a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
