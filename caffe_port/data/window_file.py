"""Window files of R-CNN, and the batches that a WindowData layer makes of them."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from caffe_port.data import list_file
from caffe_port.data.decoding import resize_linear
from caffe_port.data.images import PathLike, read_bgr
from caffe_port.data.list_file import named, whole_number
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Floats
from caffe_port.errors import DataError
from caffe_port.files import open_regular, reading

if TYPE_CHECKING:
    from caffe_port.spec.ops.data import WindowData


_LONGEST_LINE = 65536


class Window(NamedTuple):
    """A box in an image: its corners, both inside, and its class; 0 is background."""

    where: str
    image: str
    label: int
    box: tuple[int, int, int, int]


class Windows:
    """Many windows of one kind, stored compactly.

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
    of windows, and per window class, overlap, x1, y1, x2, y2, separated by spaces.

    Args:
        root_folder: prefixed to the paths.
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
        with reading(source), io.TextIOWrapper(open_regular(source), encoding="utf-8-sig") as file:
            words = _Words(source, file)
            while words.begins_image(len(images)):
                images.append(root_folder + words.text("a path"))
                for _ in range(_windows_of_image(words)):
                    label, overlap, corners = _window(words, fg)
                    if overlap >= fg:
                        objects.extend([len(images) - 1, label, *corners])
                    elif overlap < bg:
                        background.extend([len(images) - 1, 0, *corners])
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not a text file") from error
    if not objects or not background:
        kind = "background" if objects else "object"
        raise DataError(f"{source}: there is no {kind} window; a batch needs both kinds")
    return Windows(source, images, objects), Windows(source, images, background)


def _windows_of_image(words: _Words) -> int:
    if words.number("channels") != 3:
        raise words.wrong("expected images of 3 channels")
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
        """An error at the current line."""
        return DataError(f"{self._source}: line {self._line}: {message}")

    def begins_image(self, index: int) -> bool:
        """Reads `# index`; False at the end of the file."""
        word = next(self._words, None)
        if word is None:
            return False
        if word != "#":
            raise self.wrong(f"expected '# {index}', found {word[:80]!r}")
        if (found := self.number("image index")) != index:
            # upstream uses the index as the place in the file
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


class WindowReader:
    """Batches of a WindowData layer: background windows, then objects, drawn with repetition.

    Args:
        options: the layer's.
        mean: the mean image (C, H, W), at least as large as the crop, or None.
        random: draws windows and flips.
    Raises:
        DataError: the window file is malformed, or has no object or no background window.
    Source: BVLC/caffe window_data_layer.cpp.
    """

    def __init__(self, options: WindowData, mean: Floats | None, random: CaffeRandom) -> None:
        self.options, self.random = options, random
        self._skipped = list_file.current()
        self._objects, self._background = read_windows(
            options.source, options.root_folder, options.fg_threshold, options.bg_threshold
        )
        given, crop = options.transform.mean_values, options.transform.crop_size
        if mean is not None:
            off = max(0, (mean.shape[2] - crop) // 2)  # upstream takes the width's for both axes
            middle = mean[:, off : off + crop, off : off + crop]
            if middle.shape != (3, crop, crop):
                raise DataError(f"a mean of {mean.shape} for crops of (3, {crop}, {crop})")
            mean = middle
        elif len(given) not in (0, 1, 3):
            raise DataError(f"{len(given)} mean_value for 3 channels")
        else:
            mean = np.array(given or (0.0,), np.float32)[:, None, None]
        self._mean: Floats = np.broadcast_to(mean, (3, crop, crop))

    def next_batch(self) -> tuple[Floats, Floats]:
        """The next batch: data (N, 3, crop, crop), 0 beyond the image, and label (N,), float32.

        Raises:
            DataError: an image is missing or broken, or a window is outside of it; in
                ``skipping_bad_images``, all of them.
        """
        options = self.options
        crop, n = options.transform.crop_size, options.batch_size
        data, label = np.zeros((n, 3, crop, crop), np.float32), np.zeros(n, np.float32)
        objects = int(np.float32(n) * np.float32(options.fg_fraction))
        for item in range(n):
            windows = self._background if item < n - objects else self._objects
            drawn = self.random.rand(len(windows))
            mirrored = options.transform.mirror and self.random.rand(2) == 1
            label[item] = self._place_one(data[item], windows, drawn, mirrored)
        return data, label

    def _place_one(self, top: Floats, windows: Windows, drawn: int, mirrored: bool) -> int:
        """Warps the window that was drawn into the crop, and returns its class.

        In ``skipping_bad_images`` the next window that can be used replaces a bad one.
        """
        for i in range(len(windows)):
            window = windows[(drawn + i) % len(windows)]
            try:
                self._place(top, window, mirrored)
            except DataError as error:
                if self._skipped is None:
                    raise
                self._skipped.note(str(error))
            else:
                return window.label
        raise DataError(f"{self.options.source}: none of {len(windows)} windows can be used")

    def _place(self, top: Floats, window: Window, mirrored: bool) -> None:
        """Warps a window into its place in the crop."""
        with named(window.where):
            image = read_bgr(window.image)
        crop, (height, width, _) = self.options.transform.crop_size, image.shape
        fit = Fit((crop, crop), (0, 0), window.box)
        if self.options.context_pad > 0 or self.options.square:
            fit = fit_window(self.options, window.box, (height, width), mirrored)
        x1, y1, x2, y2 = fit.box
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
            raise DataError(
                f"{window.where}: window {window.box} is not inside {window.image}, "
                f"{width}x{height}"
            )
        if min(fit.size) < 1:
            raise DataError(f"{window.where}: window {window.box} leaves no pixel of the crop")
        part = resize_linear(image[y1 : y2 + 1, x1 : x2 + 1], *fit.size)
        part = part[:, ::-1] if mirrored else part
        place = (
            slice(None),
            slice(fit.offset[0], fit.offset[0] + fit.size[0]),
            slice(fit.offset[1], fit.offset[1] + fit.size[1]),
        )
        pixels = part.transpose(2, 0, 1).astype(np.float32)
        top[place] = (pixels - self._mean[place]) * np.float32(self.options.scale)


class Fit(NamedTuple):
    """How a window is placed in the crop.

    Attributes:
        size: height and width it is warped to.
        offset: place of its upper left corner, down and to the right.
        box: the part of the image, corners inside.
    """

    size: tuple[int, int]
    offset: tuple[int, int]
    box: tuple[int, int, int, int]


def fit_window(
    options: WindowData,
    box: tuple[int, int, int, int],
    image: tuple[int, int],
    mirrored: bool,
) -> Fit:
    """Widens a window by its surroundings, or to a square, and cuts it at the image's edge.

    Args:
        box: x1, y1, x2, y2, corners inside.
        image: height and width.
        mirrored: whether the padding changes sides.
    Source: BVLC/caffe window_data_layer.cpp, load_batch.
    """
    crop = options.transform.crop_size
    scale = np.float32(crop) / np.float32(crop - 2 * options.context_pad)
    across = (np.float32(box[2] - box[0] + 1) / 2, np.float32(box[3] - box[1] + 1) / 2)
    half = (max(across), max(across)) if options.square else across
    cut = []
    for axis in (0, 1):  # x, then y
        centre = np.float32(box[axis]) + across[axis]
        low = _round(centre - half[axis] * scale)
        high = _round(centre + half[axis] * scale)
        cut.append(_cut(low, high, image[1 - axis], crop))
    (x1, x2, left, right, width), (y1, y2, top, _, height) = cut
    left = right if mirrored else left
    # rounding may give a pixel too many
    size = (min(height, crop - top), min(width, crop - left))
    return Fit(size, (top, left), (x1, y1, x2, y2))


def _cut(low: int, high: int, length: int, crop: int) -> tuple[int, int, int, int, int]:
    """Along one axis: both ends inside the image, the padding before and after, the size."""
    before, after = max(0, -low), max(0, high - length + 1)
    scale = np.float32(crop) / np.float32(high - low + 1)
    low, high = low + before, high - after
    size = _round(np.float32(high - low + 1) * scale)
    return low, high, _round(np.float32(before) * scale), _round(np.float32(after) * scale), size


def _round(value: np.float32) -> int:
    """C's round: halves away from zero."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
