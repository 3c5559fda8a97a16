"""The description of a data set: classes, colours, stored labels, folders, splits, counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from caffe_port.data.images import Bytes, PathLike, voc_palette
from caffe_port.datasets.rules import MOST_STORED, VOC_VOID, LabelRules
from caffe_port.errors import DataError, UsageError, reason
from caffe_port.files import read_json

_SETS = Path(__file__).parent / "sets"
_FIELDS = {"name", "title", "classes", "colours", "void_colours", "labels", "layout", "splits",
           "server"}  # fmt: skip
_LABELS = {"first", "map", "ignored", "rest", "most", "variable"}
_LAYOUT = {"roots", "images", "labels", "list"}
_SPLIT = {"images", "labelled", "folder"}


@dataclass(frozen=True)
class Layout:
    """Where files are, as patterns below the data set's folder.

    Args:
        roots: folders below the one that is given in which the data set may be.
        images, labels: patterns of the files with ``{id}``, ``{split}`` and ``{group}``, which is
            any folder's name; the first one that exists counts.
        list: patterns of the file that names a split's ids; none, and a split is all images that
            its folder holds.
    """

    roots: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    list: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """A part of a data set.

    Args:
        images: the published number of images; None if none is published.
        labelled: whether label maps were published.
        folder: its name in paths.
    """

    images: int | None
    labelled: bool
    folder: str


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: what ``--dataset`` takes.
        title: its name in print.
        classes: the classes' names in the order of the network's outputs.
        colours: (256, 3) uint8, red, green, blue by class.
        rules: how stored labels become classes.
        layout: where its files are.
        splits: its parts by name.
        server: what its evaluation server takes: "" nothing known, "grey" or "palette" PNGs of the
            labels as they are stored.
        void_colours: colours of pixels that do not count, in label maps of colours.
    Examples:
        >>> from caffe_port.datasets import dataset
        >>> cityscapes = dataset("cityscapes")
        >>> len(cityscapes.classes), cityscapes.classes[13], cityscapes.rules.class_of(26)
        (19, 'car', 13)
    """

    name: str
    title: str
    classes: tuple[str, ...]
    colours: Bytes = field(repr=False)
    rules: LabelRules = field(repr=False)
    layout: Layout = field(repr=False)
    splits: Mapping[str, Split] = field(repr=False)
    server: str = ""
    void_colours: tuple[tuple[int, ...], ...] = VOC_VOID


def known_datasets() -> list[str]:
    """The names that ``dataset`` accepts.

    Examples:
        >>> from caffe_port.datasets import known_datasets
        >>> "voc2012" in known_datasets()
        True
    """
    return sorted(path.stem for path in _SETS.glob("*.json"))


def dataset(name: PathLike) -> Dataset:
    """A data set by its name, or by a JSON file that describes it.

    Args:
        name: one of ``known_datasets``, case and hyphens aside, or a path that ends in .json.
    Raises:
        UsageError: no such name.
        DataError: the file cannot be read or describes no data set.
    Examples:
        >>> from caffe_port.datasets import dataset
        >>> dataset("VOC2012").classes[:2]
        ('background', 'aeroplane')
    """
    text = os.fspath(name)
    if text.lower().endswith(".json"):
        return read_dataset(text)
    plain = text.lower().replace("-", "_")
    if plain not in known_datasets():
        raise UsageError(
            f"no data set '{text}'; known are {', '.join(known_datasets())}, or give a .json file "
            "that describes yours"
        )
    return _known(plain)


@cache
def _known(name: str) -> Dataset:
    return read_dataset(_SETS / f"{name}.json")


def read_dataset(path: PathLike) -> Dataset:
    """A data set of a JSON file; docs/datasets.md describes its fields.

    Raises:
        DataError: it cannot be read, or a field is missing, unknown or out of range.
    """
    values = read_json(path)
    try:
        return _parsed(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not the description of a data set: {reason(error)}") from error


def _parsed(values: dict[str, Any]) -> Dataset:
    _expect_fields(values, _FIELDS, "the description")
    classes = _strings(values["classes"], "classes")
    if not 1 <= len(classes) <= 255:
        raise ValueError(f"{len(classes)} classes; expected 1 to 255")
    server = values.get("server")
    void = tuple(
        tuple(int(part) for part in colour) for colour in values.get("void_colours", VOC_VOID)
    )
    colours = _palette(values.get("colours", "voc"), len(classes))
    own = () if values.get("colours", "voc") == "voc" else colours[: len(classes)].tolist()
    rules = _rules(values.get("labels", {}), len(classes), str(values["name"]))
    return Dataset(
        name=str(values["name"]),
        title=str(values.get("title", values["name"])),
        classes=classes,
        colours=colours,
        rules=replace(rules, colours=tuple(map(tuple, own)), void_colours=void),
        layout=_layout(values["layout"]),
        splits={name: _split(name, part) for name, part in values.get("splits", {}).items()},
        server="" if server is None else ("palette" if server.get("palette") else "grey"),
        void_colours=void,
    )


def _expect_fields(values: Any, known: set[str], what: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {type(values).__name__}; expected an object")
    if wrong := sorted(set(values) - known):
        raise ValueError(f"{what} has the unknown field '{wrong[0]}'; known: {sorted(known)}")


def _strings(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{what} must be a list of texts")
    return tuple(values)


def _palette(colours: Any, classes: int) -> Bytes:
    """(256, 3): the set's colours, black beyond them; VOC's for "voc"."""
    if colours == "voc":
        return voc_palette()
    found = np.asarray(colours)
    if found.shape != (classes, 3) or found.min() < 0 or found.max() > 255:
        raise ValueError(f"colours must be {classes} times [red, green, blue] of 0 to 255")
    palette = np.zeros((256, 3), np.uint8)
    palette[:classes] = found
    return palette


def _rules(values: Any, classes: int, name: str) -> LabelRules:
    _expect_fields(values, _LABELS, "labels")
    rest = values.get("rest")
    if rest not in (None, "ignored") and not 0 <= int(rest) < classes:
        raise ValueError(f'labels.rest is {rest}; expected a class or "ignored"')
    most = int(values.get("most", MOST_STORED))
    pairs = values.get("map")
    return LabelRules(
        classes=classes,
        table=None if pairs is None else tuple((int(a), int(b)) for a, b in pairs),
        first=int(values.get("first", 0)),
        ignored=tuple(int(label) for label in values.get("ignored", [255])),
        rest=rest if rest in (None, "ignored") else int(rest),
        most=most,
        variable=str(values.get("variable", "")),
        dataset=name,
    )


def _layout(values: Any) -> Layout:
    _expect_fields(values, _LAYOUT, "layout")
    parts = {part: _strings(values.get(part, []), f"layout.{part}") for part in _LAYOUT}
    parts["roots"] = parts["roots"] or ("",)
    for part in ("images", "labels"):
        if wrong := [pattern for pattern in parts[part] if "{id}" not in pattern]:
            raise ValueError(f"layout.{part} has '{wrong[0]}' without {{id}}")
    if not parts["images"]:
        raise ValueError("layout.images is missing")
    return Layout(parts["roots"], parts["images"], parts["labels"], parts["list"])


def _split(name: str, values: Any) -> Split:
    _expect_fields(values, _SPLIT, f"splits.{name}")
    images = values.get("images")
    return Split(
        None if images is None else int(images),
        bool(values.get("labelled", True)),
        str(values.get("folder", name)),
    )
