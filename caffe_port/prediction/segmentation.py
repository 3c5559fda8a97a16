"""The result for one image: labels, scores, confidence, entropy, and how they are drawn."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from caffe_port.data.images import Bytes, voc_palette
from caffe_port.errors import escaped
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.refinement import best_labels
from caffe_port.reports import html
from caffe_port.reports.html import encoded, resized

if TYPE_CHECKING:
    from PIL import Image

_SMALLEST, _LARGEST = 320, 16384  # pixels of an overlay's longer side
_OPACITY = 0.6
_SMALLEST_FONT, _LETTERS = 13, 25  # pixels, and the width of an image in sizes of its font
_LIGHT, _DARK = (250, 250, 248), (29, 36, 48)


class Found(NamedTuple):
    """A class of an image.

    Attributes:
        label: its index.
        name: its name.
        share: of the image's pixels, 0 to 1.
    """

    label: int
    name: str
    share: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a net says about one image.

    A notebook shows it as its overlay.

    Attributes:
        image: (h, w, 3) uint8, red green blue.
        scores: (C, h, w) float32, the net's, before the softmax and before the CRF.
        names: one for each class.
        refined: (C, h, w) float32 probabilities of the CRF, or None without it.
        colours: (256, 3) uint8 red green blue by class; VOC's by default.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.prediction import Segmentation
        >>> scores = np.zeros((2, 3, 4), np.float32)
        >>> scores[1, :, 0] = 2
        >>> result = Segmentation(np.zeros((3, 4, 3), np.uint8), scores, ["sea", "land"])
        >>> result
        <Segmentation of 4 x 3 pixels: sea 75.0 %, land 25.0 %>
        >>> result.labels[0].tolist(), result.confidence[0, 1:].tolist()
        ([1, 0, 0, 0], [0.5, 0.5, 0.5])
    """

    image: Bytes
    scores: Floats
    names: Sequence[str]
    refined: Floats | None = None
    colours: Bytes = field(default_factory=voc_palette)

    @cached_property
    def labels(self) -> Bytes:
        """(h, w) uint8: the most probable class of each pixel, the lowest among equals."""
        return best_labels(self.scores if self.refined is None else self.refined)

    @cached_property
    def probabilities(self) -> Floats:
        """(C, h, w) float32: the CRF's or, without it, the softmax of the scores."""
        return softmax(self.scores) if self.refined is None else self.refined

    @cached_property
    def confidence(self) -> Floats:
        """(h, w) float32: the probability of the label, 1 / C to 1."""
        largest: Floats = self.probabilities.max(0)
        return largest

    @cached_property
    def entropy(self) -> Floats:
        """(h, w) float32: the entropy of the probabilities over its largest value, log C.

        0 where one class has all the probability, 1 where all classes are equally probable.
        """
        total = np.zeros(self.probabilities.shape[1:], np.float32)
        for p in self.probabilities:
            total -= p * np.log(np.maximum(p, np.float32(1e-30)))
        scaled: Floats = np.clip(total / np.float32(math.log(len(self.probabilities))), 0, 1)
        return scaled

    @cached_property
    def found(self) -> list[Found]:
        """The classes of the label map, the largest first."""
        return classes_found(self.labels, self.names)

    def overlay(self, *, opacity: float = _OPACITY, legend: bool = True) -> Bytes:
        """The image under the colours of its labels, above a legend of the classes found.

        Classes whose colour is black, such as VOC's background, leave the image as it is. An
        image whose longer side has under 320 pixels is enlarged by a whole number; one of over
        16384 is reduced to that, as JPEG files and viewers have limits.

        Args:
            opacity: share of the colour, 0 to 1.
            legend: whether the names are drawn below.
        Returns:
            (H, W, 3) uint8, red green blue.
        """
        from PIL import Image

        palette = self.colours
        share = np.where(palette.any(1), np.float32(opacity), np.float32(0))[self.labels][..., None]
        mixed = self.image * (1 - share) + palette[self.labels] * share
        drawn = Image.fromarray(np.rint(mixed).astype(np.uint8))
        longest = max(drawn.size)
        factor = min(-(-_SMALLEST // longest), _LARGEST / longest)
        drawn = resized(drawn, factor, smooth=False)
        if legend:
            drawn = _with_legend(drawn, self.found, palette)
        pixels: Bytes = np.asarray(drawn)
        return pixels

    def _repr_png_(self) -> bytes:
        return file_of(self.overlay(), "PNG")

    def _repr_html_(self) -> str:
        png = base64.b64encode(file_of(self.overlay(legend=False), "PNG")).decode("ascii")
        rows = "".join(
            f"<tr><td>{_square(self.colours[one.label])}{html.text(one.name)}</td>"
            f'<td style="text-align:right">{100 * one.share:.1f} %</td></tr>'
            for one in self.found
        )
        height, width = self.labels.shape
        alt = f"labels of a {width} x {height} image"
        return (
            f'<div><img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{png}">'
            f"<table>{rows}</table></div>"
        )

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = ", ".join(f"{one.name} {100 * one.share:.1f} %" for one in self.found)
        return f"<Segmentation of {width} x {height} pixels: {found}>"


def softmax(scores: Floats) -> Floats:
    """Probabilities over the first axis.

    Args:
        scores: (C, h, w) finite.
    Returns:
        (C, h, w) float32.
    """
    values: Floats = np.exp(scores - scores.max(0))
    values /= values.sum(0)
    return values


def classes_found(labels: Bytes, names: Sequence[str]) -> list[Found]:
    """The classes of a label map, the largest first.

    Args:
        labels: (h, w).
        names: one for each class; a label beyond them is named by its number.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda label: (-counts[label], label))
    return [
        Found(
            label, names[label] if label < len(names) else str(label), counts[label] / labels.size
        )
        for label in present
    ]


def as_grey(values: Floats) -> Bytes:
    """Values of 0 to 1 as grey levels of 0 to 255, for a PNG."""
    grey: Bytes = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    return grey


def file_of(pixels: Bytes, format: str) -> bytes:
    """The content of a PNG or JPEG file.

    Args:
        pixels: (h, w) grey or (h, w, 3) red green blue, uint8.
        format: "PNG" or "JPEG".
    """
    from PIL import Image

    return encoded(Image.fromarray(pixels), format)


def _with_legend(drawn: Image.Image, found: Sequence[Found], palette: Bytes) -> Image.Image:
    """The image above a strip with a square of colour and the name of each class."""
    from PIL import Image, ImageDraw, ImageFont

    full = max(drawn.width, _SMALLEST)
    size = max(_SMALLEST_FONT, full // _LETTERS)
    font, margin = ImageFont.load_default(size), size // 2
    placed, x, y = [], margin, margin
    for one in found:
        words = f"{' '.join(escaped(one.name).split())} {100 * one.share:.1f} %"
        width = size + math.ceil(font.getlength(words)) + 3 * margin
        if x > margin and x + width > full:
            x, y = margin, y + size + margin
        placed.append((x, y, words, tuple(map(int, palette[one.label]))))
        x += width
    result = Image.new("RGB", (full, drawn.height + y + size + margin), _LIGHT)
    result.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(result)
    for x, y, words, colour in placed:
        top = drawn.height + y
        draw.rectangle((x, top, x + size - 1, top + size - 1), colour, _DARK)
        draw.text((x + size + margin, top - size // 10), words, _DARK, font=font)
    return result


def _square(colour: Bytes) -> str:
    red, green, blue = colour
    return (
        f'<span style="display:inline-block;width:.8em;height:.8em;margin-right:.4em;'
        f'background:rgb({red},{green},{blue})"></span>'
    )
