"""How the numbers and colours that a label map stores become classes; anything else is an error."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes, PathLike, open_image, read_label_values, voc_palette
from caffe_port.data.label_values import Stored, is_of_colours, label_values
from caffe_port.data.mat5 import read_numbers
from caffe_port.errors import DataError, FormatError, UsageError, option
from caffe_port.files import read_json, reading

IGNORED = 255  # the label of pixels that do not count
VOC_VOID = ((224, 224, 192),)  # the colour of VOC's boundaries
_COLOURS_SHOWN, _NOTHING = 5, 2**16 - 1
_Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Palette:
    """Colours that stand for classes.

    Args:
        colours: (N, 3) uint8, red, green, blue by class.
        void: colours of pixels that do not count.
    """

    colours: Bytes
    void: tuple[tuple[int, ...], ...] = VOC_VOID

    def knows(self, colours: Bytes) -> bool:
        """Whether all of these (M, 3) colours are classes' or void."""
        known = {tuple(map(int, row)) for row in self.colours} | set(self.void)
        return len(colours) > 0 and all(tuple(map(int, row)) in known for row in colours)

    def labels(self, pixels: Bytes, where: str) -> Bytes:
        """Colours to the classes that they stand for.

        Args:
            pixels: (H, W, 3) uint8, red, green, blue.
            where: names the image in errors.
        Returns:
            (H, W) uint8, ``IGNORED`` where a pixel does not count.
        Raises:
            DataError: colours of no class, which are counted, or of several classes.
        Warns:
            UserWarning: a colour is that of a class and of pixels that do not count.
        """
        codes = _codes(pixels)
        labels = self._table[codes]
        if (labels == _NOTHING).any():
            raise DataError(f"{where}: {_of_no_class(codes[labels == _NOTHING])}")
        self._expect_single(np.unique(labels).tolist(), where)
        return labels.astype(np.uint8)

    @cached_property
    def _table(self) -> npt.NDArray[np.uint16]:
        """Class by colour, for all 2**24."""
        table = np.full(2**24, _NOTHING, np.uint16)
        if self.void:
            table[_codes(np.array(self.void, np.uint8))] = IGNORED
        table[_codes(self.colours)] = np.arange(len(self.colours))
        return table

    def _expect_single(self, found: list[int], where: str) -> None:
        rows = [tuple(map(int, row)) for row in self.colours]
        for label in found:
            if label == IGNORED:
                continue
            alike = [c for c, colour in enumerate(rows) if colour == rows[label]]
            if len(alike) > 1:
                raise DataError(
                    f"{where}: {rows[label]} is the colour of the classes {alike}; only a label "
                    "map of indices tells them apart"
                )
            if rows[label] in self.void:
                warnings.warn(
                    f"{where}: {rows[label]} is the colour of class {label} and also of labels "
                    "that do not count; all such pixels are taken for the class. The label maps of "
                    "indices tell them apart",
                    stacklevel=3,
                )


def _of_no_class(codes: _Codes) -> str:
    found, pixels = np.unique(codes, return_counts=True)
    order = np.argsort(-pixels)[:_COLOURS_SHOWN]
    shown = ", ".join(
        f"({code >> 16}, {code >> 8 & 255}, {code & 255}) ({count:,} pixels)"
        for code, count in zip(found[order].tolist(), pixels[order].tolist(), strict=True)
    )
    return (
        f"{len(found)} colours of no class: {shown}. Is the palette another data set's "
        "(--palette NAME), or was the image compressed with losses or resized?"
    )


def _codes(colours: Bytes) -> _Codes:
    wide = colours.astype(np.int32)
    codes: _Codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return codes


MOST_STORED = 2**16 - 1
_UNKNOWN = -1
_LABELS_SHOWN = 20  # labels in a message
Unknown = Literal["error", "ignore"]


@dataclass(frozen=True)
class Truth:
    """A label map as classes.

    Attributes:
        labels: (H, W) uint8, classes, or ``IGNORED`` where a pixel does not count.
        void: (H, W) bool, pixels that the data set itself leaves out, such as boundaries.
        unknown: pixels by stored label that is no class, where those are ignored.
    """

    labels: Bytes
    void: npt.NDArray[np.bool_]
    unknown: dict[int, int]


@dataclass(frozen=True)
class LabelRules:
    """How stored labels become classes.

    Args:
        classes: the data set's number of classes; None, and the network's is taken.
        table: pairs (stored label, class); None, and classes are stored in their order.
        first: the stored label of class 0 where there is no table; 1 for a set whose 0 means
            "not labelled".
        ignored: stored labels that do not count; they come before ``table`` and ``first``.
        rest: what the labels up to ``most`` mean that are neither in ``table`` nor ignored: a
            class, "ignored", or None: an error.
        most: the largest label that the data set stores.
        variable: of a .mat file, such as "S" or "GTcls.Segmentation".
        unknown: what to do with any other label: "error", or "ignore" and count it.
        dataset: whose rules these are, for messages.
        colours: red, green, blue by class. Label maps that store colours are converted by them,
            and a palette that has them at other indices is refused. None are known without them.
        void_colours: of pixels that do not count, in label maps that store colours.
    Raises:
        UsageError: a label or class out of range.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.datasets import LabelRules
        >>> stored = np.array([[0, 1, 150]], np.uint8)
        >>> LabelRules(first=1, ignored=(0,)).applied(stored, 150, "a.png").labels
        array([[255,   0, 149]], dtype=uint8)
    """

    classes: int | None = None
    table: tuple[tuple[int, int], ...] | None = None
    first: int = 0
    ignored: tuple[int, ...] = (255,)
    rest: int | Literal["ignored"] | None = None
    most: int = MOST_STORED
    variable: str = ""
    unknown: Unknown = "error"
    dataset: str = ""
    colours: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    void_colours: tuple[tuple[int, ...], ...] = field(default=VOC_VOID, repr=False)

    def __post_init__(self) -> None:
        stored = [*self.ignored, self.first, self.most, *(a for a, _ in self.table or ())]
        if wrong := [label for label in stored if not 0 <= label <= MOST_STORED]:
            raise UsageError(f"a stored label must be 0 to {MOST_STORED}, got {wrong[0]}")
        most = 254 if self.classes is None else self.classes - 1
        if wrong := [c for _, c in self.table or () if not 0 <= c <= most and c != IGNORED]:
            raise UsageError(f"a label map leads to class {wrong[0]}; expected 0 to {most}")

    @property
    def is_plain(self) -> bool:
        """Whether images store the classes themselves, and 255 where a pixel does not count."""
        plain = (None, 0, None, (255,), "", ())
        rules = (self.table, self.first, self.rest, self.ignored, self.variable, self.colours)
        return rules == plain

    def class_of(self, stored: int) -> int | None:
        """The class of a stored label, ``IGNORED``, or None for a label that is neither."""
        found = int(_lookup(self, self.classes or IGNORED)[stored])
        return None if found == _UNKNOWN else found

    def stored(self) -> list[int]:
        """The stored label of each class, the first of several."""
        found: dict[int, int] = {}
        lookup = _lookup(self, self.classes or IGNORED)
        for label in np.flatnonzero((lookup >= 0) & (lookup != IGNORED)).tolist():
            found.setdefault(int(lookup[label]), label)
        return [found[c] for c in sorted(found)]

    def read(self, path: PathLike, classes: int) -> Truth:
        """Reads a label map.

        Args:
            path: an image of indices of 8 or 16 bits, or a .mat file; an image of colours if
                ``colours`` says their classes, and none is also of pixels that do not count.
            classes: the network's number of classes.
        Raises:
            UsageError: the network's classes are not the data set's.
            DataError, FormatError: the file is missing or broken, or holds a label that is
                neither a class nor ignored.
        """
        where = os.fspath(path)
        if not self.colours or Path(path).suffix.lower() == ".mat":
            return self.applied(read_stored(path, self.variable), classes, where)
        image = open_image(path)
        if is_of_colours(image) and not set(self.colours) & set(self.void_colours):
            self.expect_classes(classes)
            with image:
                pixels = np.asarray(image.convert("RGB"))
            labels = _palette(self.colours, self.void_colours).labels(pixels, where)
            return Truth(labels, labels == IGNORED, {})
        known: list[npt.NDArray[Any]] = [voc_palette(), self._stored_colours(classes)]
        return self.applied(label_values(where, image, known), classes, where)

    def _stored_colours(self, classes: int) -> npt.NDArray[np.int16]:
        """(256, 3) the colours by stored label, -1 where a label is no class."""
        found = _lookup(self, classes)[:256]
        by_class = np.full((256, 3), -1, np.int16)
        by_class[: len(self.colours)] = self.colours
        return by_class[found]  # _UNKNOWN is the last row, as IGNORED

    def applied(self, stored: Stored, classes: int, where: str) -> Truth:
        """What ``read`` makes of labels in memory; ``where`` names them in errors."""
        self.expect_classes(classes)
        found = _lookup(self, classes)[stored]
        beyond, labels = found == _UNKNOWN, found.astype(np.uint8)  # -1 becomes IGNORED
        counts: dict[int, int] = {}
        if beyond.any():
            values, pixels = np.unique(stored[beyond], return_counts=True)
            counts = dict(zip(values.tolist(), pixels.tolist(), strict=True))
            if self.unknown == "error":
                raise DataError(f"{where}: {self._of_unknown(counts, classes)}")
        return Truth(labels, (labels == IGNORED) & ~beyond, counts)

    def expect_classes(self, classes: int) -> None:
        """Raises UsageError for a network of another number of classes than the data set's."""
        if self.classes is not None and classes != self.classes:
            raise UsageError(
                f"the network has {classes} classes, the data set {self.dataset or 'described'} "
                f"has {self.classes}: no score is possible. Use the data set that the network was "
                "trained on, or describe its own classes in a .json file"
            )

    def _of_unknown(self, counts: Mapping[int, int], classes: int) -> str:
        whose = f" of {self.dataset}" if self.dataset else ""
        ignored = ", ".join(map(str, self.ignored)) or "none"
        words = (
            f"the truth holds {listed(counts)}, outside the {classes} classes{whose} (ignored "
            f"label: {ignored}). "
        )
        if self.dataset:
            return words + "Are these the label maps that the data set distributes?"
        return words + _advice(max(counts), classes)


def _advice(largest: int, classes: int) -> str:
    shifted = "the labels seem to start at 1, with 0 for pixels without a label: "
    offset = f"{shifted}{option('reduce_zero_label', True)}; else " if largest == classes else ""
    return (
        f"Say what the labels mean: {offset}name the data set ({option('dataset', 'NAME')}), map "
        f"the labels ({option('label_map', 'FILE.json')}), or, if the network does not know these "
        f"classes, leave them out of the score ({option('unknown_labels', 'ignore')})"
    )


def listed(counts: Mapping[int, int]) -> str:
    """Labels with their pixels for a message: "label 21 (3 pixels), label 40 (1 pixel)"."""
    shown = [
        f"label {label} ({pixels:,} pixel{'s' if pixels > 1 else ''})"
        for label, pixels in sorted(counts.items())[:_LABELS_SHOWN]
    ]
    more = f" and {len(counts) - _LABELS_SHOWN} more labels" if len(counts) > _LABELS_SHOWN else ""
    return ", ".join(shown) + more


@lru_cache(maxsize=4)
def _palette(colours: tuple[tuple[int, ...], ...], void: tuple[tuple[int, ...], ...]) -> Palette:
    return Palette(np.array(colours, np.uint8), void)


@cache
def _lookup(rules: LabelRules, classes: int) -> npt.NDArray[np.int16]:
    """(65536,) the class of each stored label, ``IGNORED`` or ``_UNKNOWN``."""
    found = np.full(MOST_STORED + 1, _UNKNOWN, np.int16)
    if rules.rest is not None:
        found[: rules.most + 1] = IGNORED if rules.rest == "ignored" else rules.rest
    if rules.table is None:
        found[rules.first : rules.first + classes] = np.arange(classes)[: len(found) - rules.first]
    for label, to in rules.table or ():
        found[label] = to if to < classes else IGNORED if to == IGNORED else _UNKNOWN
    found[list(rules.ignored)] = IGNORED
    return found


def read_stored(path: PathLike, variable: str = "", colours: Bytes | None = None) -> Stored:
    """The numbers of a label map as they are stored.

    Args:
        path: an image of indices, or a .mat file.
        variable: of a .mat file.
        colours: of the data set, see ``read_labels``.
    Returns:
        (H, W) uint8 or uint16.
    Raises:
        DataError, FormatError: missing, broken, or not whole numbers of 0 to 65535.
    """
    if Path(path).suffix.lower() != ".mat":
        return read_label_values(path, colours)
    if not variable:
        raise DataError(
            f"{path}: a .mat file, and nothing says which of its variables are the labels: name "
            f"the data set ({option('dataset', 'NAME')}), whose description does"
        )
    with reading(path):
        values = read_numbers(path, variable)
    if values.ndim != 2 or not values.size:
        raise FormatError(f"{variable} has shape {values.shape}; expected (H, W)", path=path)
    with np.errstate(invalid="ignore"):  # what is not a label is found by the comparison
        labels = np.ascontiguousarray(values.astype(np.uint16))
    if not np.array_equal(labels, values):
        raise FormatError(f"{variable} holds numbers other than 0 to 65535", path=path)
    return labels


def read_label_map(path: PathLike) -> tuple[tuple[int, int], ...]:
    """Pairs (stored label, class) of a JSON file: ``{"7": 0, "8": 1, "0": 255}``.

    The class 255 marks pixels that do not count.

    Raises:
        DataError: it cannot be read or is of another form.
    """
    values = read_json(path)
    try:
        pairs = tuple((int(label), _whole(to)) for label, to in values.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f'{path}: expected {{"stored label": class, ...}} such as {{"7": 0, "0": 255}}, '
            f"found something else ({error})"
        ) from error
    return pairs


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a class")
    return value
