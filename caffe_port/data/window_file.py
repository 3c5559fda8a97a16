"""Window files: images and boxes in them, as R-CNN lists them for Caffe."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Iterator
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from caffe_port.data.list_file import whole_number
from caffe_port.data.pictures import PathLike
from caffe_port.errors import DataError
from caffe_port.files import open_regular

_LONGEST_LINE = 65536


class Window(NamedTuple):
    """A box in an image: its corners, both inside, and its class; 0 is background."""

    where: str
    image: str
    label: int
    box: tuple[int, int, int, int]


class Windows:
    """Many windows of one kind, kept small.

    Args:
        source: the window file, for errors.
        images: the names of its images.
        numbers: image, label, x1, y1, x2, y2 of one window after the other.
    """

    def __init__(self, source: PathLike, images: list[str], numbers: array[int]) -> None:
        self._source, self._images = source, images
        self._numbers: npt.NDArray[np.intc] = np.frombuffer(numbers, np.intc).reshape(-1, 6)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Window:
        image, label, x1, y1, x2, y2 = map(int, self._numbers[index])
        where = f"{self._source}: image {image}"
        return Window(where, self._images[image], label, (x1, y1, x2, y2))


def read_windows(
    source: PathLike, root_folder: str, fg_threshold: float, bg_threshold: float
) -> tuple[Windows, Windows]:
    """Reads a window file: for each image `# index`, then path, channels, height, width, number
    of windows, and per window class, overlap, x1, y1, x2, y2, all apart by blanks.

    Args:
        root_folder: put before the paths.
        fg_threshold: windows of this overlap or more are objects.
        bg_threshold: those below it are background; those between are left out.
    Returns:
        Objects and background, neither of them empty.
    Raises:
        DataError: the file is missing or malformed, or has windows of one kind only.
    Source: BVLC/caffe window_data_layer.cpp, DataLayerSetUp.
    """
    images: list[str] = []
    objects, background = array("i"), array("i")
    # upstream compares in float32
    fg, bg = float(np.float32(fg_threshold)), float(np.float32(bg_threshold))
    try:
        with io.TextIOWrapper(open_regular(source), encoding="utf-8-sig") as file:
            words = _Words(source, file)
            while words.begins_image(len(images)):
                images.append(root_folder + words.text("a path"))
                for _ in range(_windows_of_image(words)):
                    label, overlap, corners = _window(words, fg)
                    if overlap >= fg:
                        objects.extend([len(images) - 1, label, *corners])
                    elif overlap < bg:
                        background.extend([len(images) - 1, 0, *corners])
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not a text file") from error
    if not objects or not background:
        kind = "background" if objects else "object"
        raise DataError(f"{source}: there is no {kind} window; a batch needs both kinds")
    return Windows(source, images, objects), Windows(source, images, background)


def _windows_of_image(words: _Words) -> int:
    if words.number("channels") != 3:
        raise words.wrong("images of 3 channels are read here")
    words.number("height")
    words.number("width")
    return words.number("number of windows")


def _window(words: _Words, fg: float) -> tuple[int, float, list[int]]:
    """Class, overlap and corners of one window."""
    label, overlap = words.number("class"), float(np.float32(words.real("overlap")))
    corners = [words.number(name) for name in ("x1", "y1", "x2", "y2")]
    if corners[2] < corners[0] or corners[3] < corners[1]:
        raise words.wrong(f"window {corners} ends before it begins")
    if overlap >= fg and label <= 0:
        raise words.wrong(f"an object of class {label}; expected 1 or more")
    return label, overlap, corners


class _Words:
    """The words of a file one by one, with the line for errors."""

    def __init__(self, source: PathLike, file: TextIO) -> None:
        self._source, self._file, self._line = source, file, 0
        self._words = self._read()

    def _read(self) -> Iterator[str]:
        while line := self._file.readline(_LONGEST_LINE):
            self._line += 1
            if len(line) == _LONGEST_LINE:
                raise self.wrong("a line too long for a window file")
            yield from line.split()

    def wrong(self, message: str) -> DataError:
        """An error at the present line."""
        return DataError(f"{self._source}: line {self._line}: {message}")

    def begins_image(self, index: int) -> bool:
        """Reads `# index`; False at the end of the file."""
        word = next(self._words, None)
        if word is None:
            return False
        if word != "#":
            raise self.wrong(f"expected '# {index}', found {word[:80]!r}")
        if (found := self.number("image index")) != index:
            # upstream takes the index for the place in the file
            raise self.wrong(f"image index {found}; expected {index}, counting from 0")
        return True

    def text(self, what: str) -> str:
        """The next word."""
        word = next(self._words, None)
        if word is None or "\0" in word:
            raise self.wrong(f"the file ends before {what}" if word is None else f"{what} with NUL")
        return word

    def number(self, what: str) -> int:
        """The next word as a whole number of 32 bits."""
        word = self.text(what)
        value = whole_number(word)
        if value is None:
            raise self.wrong(f"{what} is {word[:40]!r}; expected a whole number")
        return value

    def real(self, what: str) -> float:
        """The next word as a number that float32 holds."""
        word = self.text(what)
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not abs(value) <= float(np.finfo(np.float32).max):
            raise self.wrong(f"{what} is {word[:40]!r}; expected a number")
        return value
