"""The numbers that an image of labels holds, and images that only look like one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffe_port.data import decoding
from caffe_port.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Stored = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Palette = npt.NDArray[np.uint8]
Known = npt.NDArray[Any]  # (N, 3) colours, negative where there is none
_CONVERT = "caffe-port labels to-index"
_MOST_COLOURS = 5  # in a message


def label_values(path: str, image: Image.Image, palettes: Sequence[Known] = ()) -> Stored:
    """The class indices of a decoded label map, as they are stored. The image is closed.

    Args:
        path: names it in errors.
        image: a palette image, or a grey one of 1, 8 or 16 bits.
        palettes: (N, 3) known colours by stored label, negative where a label has none; without
            any the image's palette is not compared.
    Returns:
        (H, W) uint8, or uint16 of a 16-bit image.
    Raises:
        DataError: an image of colours; a palette with known colours at other indices.
    """
    with image:
        if decoding.is_16_bit(image):
            return np.asarray(image).astype(np.uint16)
        if is_of_colours(image):
            raise _of_colours(path, image)
        values = np.asarray(image).astype(np.uint8)
        if image.mode == "P":
            expect_own_indices(path, values, stored_palette(image), palettes)
        return values


def is_of_colours(image: Image.Image) -> bool:
    """Whether an image has no indices: neither a palette nor grey values."""
    return image.mode not in ("1", "L", "P") and not decoding.is_16_bit(image)


def stored_palette(image: Image.Image) -> Palette:
    """The (N, 3) red, green, blue of a palette image."""
    return np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)


def expect_own_indices(
    path: str, values: Stored, stored: Palette, palettes: Sequence[Known]
) -> None:
    """Refuses an image whose palette has a known palette's colours at other indices.

    An image with the colours of one known palette at their own indices is accepted, even if
    another palette has these colours at other indices. An editor that sorts or packs a palette
    leaves the colours and changes the indices: read as indices, every class would be another one.

    Args:
        path: names it in errors.
        values: (H, W) indices.
        stored: (N, 3) the image's palette.
        palettes: (M, 3) the known colours by stored label, of each palette.
    Raises:
        DataError: as said above.
    """
    used = np.unique(values)
    if not used.size or used[-1] >= len(stored):
        return
    if any(used[-1] < len(p) and np.array_equal(stored[used], p[used]) for p in palettes):
        return
    for palette in palettes:
        _expect_not_moved(path, used.tolist(), stored, palette)


def _expect_not_moved(path: str, used: list[int], stored: Palette, palette: Known) -> None:
    colours = [(int(r), int(g), int(b)) for r, g, b in stored[used]]
    known = {(int(r), int(g), int(b)): i for i, (r, g, b) in reversed(list(enumerate(palette)))}
    classes = [known.get(colour) for colour in colours]
    is_grey = all(colour == (i, i, i) for i, colour in zip(used, colours, strict=True))
    if is_grey or None in classes or len(set(colours)) < len(colours):
        return  # a palette of its own
    moved = [
        triple for triple in zip(used, colours, classes, strict=True) if triple[0] != triple[2]
    ]
    if moved:
        index, colour, at = moved[0]
        raise DataError(
            f"{path}: the palette has the known colours at other indices: index {index} has "
            f"{colour}, the colour of class {at} ({len(moved)} of {len(used)} indices differ). "
            f"Convert by the colours with '{_CONVERT} {path} -o FOLDER' (with --palette NAME for "
            "colours other than VOC's), or, where the indices are the classes, with its option "
            "--keep-indices"
        )


def _of_colours(path: str, image: Image.Image) -> DataError:
    found = ", ".join(map(str, _first_colours(image)))
    return DataError(
        f"{path}: a label map must be a palette or grey image of class indices, found mode "
        f"{image.mode} (colours {found}). Convert its colours to indices: "
        f"'{_CONVERT} {path} -o FOLDER' (with --palette NAME for colours other than VOC's)"
    )


def _first_colours(image: Image.Image) -> Sequence[tuple[int, ...]]:
    small = image.convert("RGB").resize((32, 32), resample=0)
    pixels = np.asarray(small).reshape(-1, 3)
    return [tuple(map(int, row)) for row in np.unique(pixels, axis=0)[:_MOST_COLOURS]]
