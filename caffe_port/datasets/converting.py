"""Label maps of one form written in another: indices for training and scoring, a server's form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.data.images import (
    Bytes,
    PathLike,
    open_image,
    voc_palette,
    write_labels,
)
from caffe_port.data.label_values import is_of_colours, label_values, stored_palette
from caffe_port.data.voc import LABEL_SUFFIXES
from caffe_port.datasets.description import Dataset, dataset
from caffe_port.datasets.rules import IGNORED, LabelRules, Palette, read_stored
from caffe_port.errors import DataError, UsageError
from caffe_port.files import read_json

if TYPE_CHECKING:
    from PIL import Image


def label_files(sources: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """The label maps among files and folders, each with its name below its folder."""
    for source in sources:
        if not source.is_dir():
            yield source, Path(source.name)
            continue
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in LABEL_SUFFIXES)
        for path in found:
            if path.is_file():
                yield path, path.relative_to(source)


def to_index(path: PathLike, rules: LabelRules, classes: int, palette: Palette | None) -> Bytes:
    """A label map as class indices, whatever form it has.

    Args:
        path: an image of colours, a palette or grey image, or a .mat file. A palette image whose
            colours are the palette's is converted by them, any other by its indices.
        rules: what stored indices mean.
        classes: how many there are.
        palette: what colours mean; None reads indices only.
    Returns:
        (H, W) uint8, ``IGNORED`` where a pixel does not count.
    Raises:
        DataError, FormatError: the file cannot be read, or holds a colour or label of no class.
    """
    where = os.fspath(path)
    if Path(path).suffix.lower() == ".mat":
        return rules.read(path, classes).labels
    image = open_image(path)
    if palette is not None and _is_coloured(image, palette):
        with image:
            return palette.labels(np.asarray(image.convert("RGB")), where)
    return rules.applied(label_values(where, image), classes, where).labels


def _is_coloured(image: Image.Image, palette: Palette) -> bool:
    """Whether the colours of an image are to be read, not its indices."""
    if image.mode != "P":
        return is_of_colours(image)
    used, stored = np.unique(np.asarray(image)), stored_palette(image)
    return int(used[-1]) < len(stored) and palette.knows(stored[used])


def _colours(values: object, path: PathLike) -> Bytes:
    try:
        colours = np.array(values)
        if colours.ndim != 2 or colours.shape[1] != 3 or not 1 <= len(colours) <= IGNORED:
            raise ValueError(f"shape {colours.shape}")
        if colours.dtype.kind not in "iu" or colours.min() < 0 or colours.max() > 255:
            raise ValueError("a value other than 0 to 255")
    except ValueError as error:
        message = f"expected [[red, green, blue], ...] of 0 to 255, one for each class ({error})"
        raise DataError(f"{path}: {message}") from error
    return colours.astype(np.uint8)


def to_server(path: PathLike, data: Dataset, target: PathLike) -> None:
    """Writes a predicted label map as the data set's evaluation server takes it.

    Args:
        path: a label map of class indices.
        data: its data set.
        target: the PNG to write.
    Raises:
        UsageError: the data set has no known server, or it takes labels above 255.
        DataError: the file cannot be read, or holds a label that is not a class.
    """
    if not data.server:
        raise UsageError(f"{data.name}: no evaluation server is known")
    labels = read_stored(path, colours=data.colours[: len(data.classes)])
    if labels.max(initial=0) >= len(data.classes):
        raise DataError(
            f"{path}: label {labels.max()}; expected 0 to {len(data.classes) - 1}, the classes of "
            f"{data.name}"
        )
    stored = np.array(data.rules.stored(), np.uint8)
    write_labels(target, stored[labels], palette=data.server == "palette")


def palette_named(name: str | None, classes: int | None = None) -> Palette:
    """A palette by the name of a data set, "voc", or a JSON file of colours.

    Args:
        name: None means "voc".
        classes: how many of VOC's colours; 21 by default.
    Raises:
        UsageError, DataError: no such data set; the file cannot be read.
    """
    if name is None or name.lower() == "voc":
        return Palette(voc_palette()[: classes or 21])
    if name.lower().endswith(".json"):
        values = read_json(name)
        if not isinstance(values, dict):
            return Palette(_colours(values, name))
    data = dataset(name)
    return Palette(data.colours[: len(data.classes)], data.void_colours)
