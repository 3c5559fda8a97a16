"""Colours that stand for classes, in label maps that store colours or a palette."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import Bytes
from caffe_port.errors import DataError

IGNORED = 255  # the label of pixels that do not count
VOC_VOID = ((224, 224, 192),)  # the colour of VOC's boundaries
_SHOWN, _NOTHING = 5, 2**16 - 1
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
    order = np.argsort(-pixels)[:_SHOWN]
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
