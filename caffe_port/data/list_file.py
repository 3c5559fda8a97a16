"""List files: their lines, the order in which a layer takes them, images that are skipped."""

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

_LONGEST_NAME = 4096  # the limit of usual systems
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")  # Python's int() also takes 1_000 and other scripts


def list_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Every line that is not empty, with its 1-based number.

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
    """The words of every line that is not empty, with its 1-based number.

    Raises:
        DataError: as for ``list_lines``; a line of more than two words.
    """
    for number, line in list_lines(path):
        words = line.split()
        if len(words) > 2:
            raise DataError(
                f"{path}: line {number}: expected an id or 'image label' (names cannot hold "
                f"spaces), found {line[:80]!r}"
            )
        if max(map(len, words)) > _LONGEST_NAME:
            raise DataError(f"{path}: line {number}: a name of over {_LONGEST_NAME} characters")
        yield number, words


def warn_of_missing_labels(
    path: PathLike, unlabelled: Sequence[int], lines: int, advice: str
) -> None:
    """Warns once of lines without a label.

    Args:
        path: the list.
        unlabelled: the numbers of those lines.
        lines: how many lines there are.
        advice: what is done with them, and the alternatives.
    """
    if unlabelled:
        message = (
            f"{path}: {len(unlabelled)} of {lines} lines have no label (the first is line "
            f"{unlabelled[0]}). {advice}"
        )
        warnings.warn(message, stacklevel=4)


def whole_number(word: str) -> int | None:
    """A word as a whole number of 32 bits, None where it is not one."""
    value = int(word) if _WHOLE.fullmatch(word) else 2**31
    return value if -(2**31) <= value < 2**31 else None


class SkippedImages:
    """The images that a run skipped because they are missing or broken.

    Args:
        report: called with the fault of an image when it is first met.
    Attributes:
        times: fault -> how often it was met.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report, self.times = report, Counter[str]()

    def note(self, wrong: str) -> None:
        """Counts an image that cannot be used."""
        self.times[wrong] += 1
        if self.times[wrong] == 1:
            self._report(wrong)

    def summary(self) -> str:
        """How many images were skipped and how often."""
        return f"{len(self.times)} bad images were skipped, {self.times.total()} times in all."


_current: ContextVar[SkippedImages | None] = ContextVar("skipped_images", default=None)


@contextmanager
def skipping_bad_images(report: Callable[[str], None]) -> Iterator[SkippedImages]:
    """Lists and window files opened in the block skip entries that cannot be used.

    Without it such an image ends the run with its name and its line in the list.

    Args:
        report: called with the fault of an image when it is first met.
    """
    skipped = SkippedImages(report)
    token = _current.set(skipped)
    try:
        yield skipped
    finally:
        _current.reset(token)


def current() -> SkippedImages | None:
    """Where lists that are opened now note bad images; None where bad images are errors."""
    return _current.get()


class Numbered(Protocol):
    """A line with its number in the list, from 1."""

    @property
    def number(self) -> int: ...


L = TypeVar("L", bound=Numbered)
T = TypeVar("T")


class ListDataset(Generic[L]):
    """The lines of a list in the order in which a data layer takes them, again and again.

    Args:
        source: the list's name.
        lines: its lines.
        order: shuffles them at the start of every round; None keeps their order.
        skip: how many are skipped at the start.
    Raises:
        UsageError: ``skip`` skips all of them.
    """

    def __init__(
        self, source: PathLike, lines: list[L], order: CaffeRandom | None, skip: int = 0
    ) -> None:
        self._source, self._order, self._place = source, order, skip
        self._skipped = current()
        self._lines = {line.number: line for line in lines}
        self._numbers = list(self._lines)
        if order is not None:
            order.shuffle(self._numbers)
        if skip >= len(lines):
            raise UsageError(f"{source}: rand_skip skips all of its {len(lines)} lines")

    @property
    def current(self) -> L:
        """The next line."""
        return self._lines[self._numbers[self._place]]

    @property
    def skips_bad_images(self) -> bool:
        """Whether the next line depends on which images can be read."""
        return self._skipped is not None

    def advance(self) -> None:
        """Moves to the line after; after the last one, to the first of a new round."""
        self._place += 1
        if self._place == len(self._numbers):
            self._place = 0
            if self._order is not None:
                self._numbers = list(self._numbers)  # states keep the old order
                self._order.shuffle(self._numbers)

    def read(self, reading: Callable[[L], T]) -> tuple[L, T]:
        """Reads the next line; in ``skipping_bad_images``, the next one that can be read.

        Raises:
            DataError: it cannot be read, or none can.
        """
        for _ in range(2 * len(self._numbers)):  # a new round may begin meanwhile
            try:
                return self.current, reading(self.current)
            except DataError as error:
                if self._skipped is None:
                    raise
                self._skipped.note(str(error))
                self.advance()
        raise DataError(f"{self._source}: none of its {len(self._numbers)} images can be used")

    def state(self) -> tuple[list[int], int]:
        """The current order, as the lines' numbers in the list, and the place in it."""
        return self._numbers, self._place

    def set_state(self, numbers: Sequence[int], place: int) -> None:
        """Continues from a ``state``.

        Raises:
            UsageError: the list has other lines now.
        """
        count = len(self._numbers)
        if sorted(numbers) != sorted(self._numbers) or not 0 <= place < count:
            without = option("keeps_run_state", False)
            raise UsageError(
                f"{self._source}: the list has changed since the snapshot: {count} lines, "
                f"{len(numbers)} then" + (f"; {without} restarts it" if without else "")
            )
        self._numbers, self._place = list(numbers), place


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Prefixes a DataError with the place that names an image, such as a list and its line."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
