"""List files: lines of an image, an id or an image and its label."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

from caffe_port.data.pictures import PathLike
from caffe_port.errors import DataError
from caffe_port.files import read_text
from caffe_port.sniff import read_head, seems_to_be

_LONGEST_NAME = 4096  # what systems take at most
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")  # Python's int() also takes 1_000 and other scripts


def list_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its 1-based number.

    Raises:
        DataError: the list is missing, not text, or empty.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read: {error.strerror or error}") from error
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
