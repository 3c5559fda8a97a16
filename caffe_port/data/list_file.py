"""List files: lines, images that cannot be read, reading in order."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, Protocol, TypeVar

from caffe_port.data.images import PathLike
from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import DataError, UsageError, option
from caffe_port.files import read_head, read_text, reading, seems_to_be

# List files: lines of an image, an id or an image and its label.

_LONGEST_NAME = 4096  # what systems take at most
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")  # Python's int() also takes 1_000 and other scripts


def list_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its 1-based number.

    Raises:
        DataError: the list is missing, not text, or empty.
    """
    try:
        with reading(path, "the list"):
            text = read_text(path)
    except UnicodeDecodeError as error:
        message = f"byte {error.start}: not a text file{_seems(path)}"
        raise DataError(f"{path}: {message}") from error
    found = False
    for number, line in enumerate(text.splitlines(), 1):
        if "\0" in line:
            message = f"expected an id or 'image label', found {line[:80]!r}{_seems(path)}"
            raise DataError(f"{path}: line {number}: {message}")
        if line.strip():
            found = True
            yield number, line
    if not found:
        raise DataError(f"{path}: the list is empty")


def _seems(path: PathLike) -> str:
    what = seems_to_be(read_head(path))
    return f" (the file seems to be {what})" if what else ""


def list_words(path: PathLike) -> Iterator[tuple[int, list[str]]]:
    """The words of every line that is not blank, with its 1-based number.

    Raises:
        DataError: as for ``list_lines``; a line of more than two words.
    """
    for number, line in list_lines(path):
        words = line.split()
        if len(words) > 2:
            raise DataError(
                f"{path}: line {number}: expected an id or 'image label' (names cannot hold "
                f"blanks), found {line[:80]!r}"
            )
        if max(map(len, words)) > _LONGEST_NAME:
            raise DataError(f"{path}: line {number}: a name of over {_LONGEST_NAME} characters")
        yield number, words


def warn_of_missing_labels(
    path: PathLike, unlabelled: Sequence[int], lines: int, advice: str
) -> None:
    """Warns once of lines that name an image alone.

    Args:
        path: the list.
        unlabelled: the numbers of those lines.
        lines: how many lines there are.
        advice: what is done with them, and what else can be.
    """
    if unlabelled:
        message = (
            f"{path}: {len(unlabelled)} of {lines} lines have no label (the first is line "
            f"{unlabelled[0]}). {advice}"
        )
        warnings.warn(message, stacklevel=4)


def whole_number(word: str) -> int | None:
    """A word as a whole number of 32 bits, None where it is none."""
    value = int(word) if _WHOLE.fullmatch(word) else 2**31
    return value if -(2**31) <= value < 2**31 else None


# Passing over images that are missing or broken, where the user has asked for it, and counting.
#
# Without it such an image ends the run with its name and its line in the list.


class PassedOver:
    """The bad images of a run.

    Args:
        tell: is given what is wrong with an image when it is met for the first time.
    Attributes:
        times: what was wrong -> how often it was met.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self.times = tell, Counter[str]()

    def note(self, wrong: str) -> None:
        """Counts an image that cannot be used."""
        self.times[wrong] += 1
        if self.times[wrong] == 1:
            self._tell(wrong)

    def summary(self) -> str:
        """How many images were passed over and how often."""
        return f"{len(self.times)} bad images were passed over, {self.times.total()} times in all."


_current: ContextVar[PassedOver | None] = ContextVar("passed_over", default=None)


@contextmanager
def passing_over(tell: Callable[[str], None]) -> Iterator[PassedOver]:
    """Lists and window files opened inside take the next entry for one that cannot be used."""
    passed = PassedOver(tell)
    token = _current.set(passed)
    try:
        yield passed
    finally:
        _current.reset(token)


def current() -> PassedOver | None:
    """Where lists that are opened now note bad images; None where these are errors."""
    return _current.get()


# The lines of a list in the order in which a data layer takes them.


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
        self._passed_over = current()
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
    """Puts the place that names an image, such as a list and its line, before a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
