"""Names of Caffe's layers in the state dicts of other programs: one data file per program.

A file of ``weights/names/`` (or a user's own) is a list of rules. The first rule whose pattern
matches a layer's whole name says which module of the other program has its parameters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from caffe_port.errors import FormatError, UsageError, reason
from caffe_port.files import read_json

_FOLDER = Path(__file__).parent / "names"
_FIELD = re.compile(r"\{(\w+)(?:([+-]\d{1,4}))?\}")
_MAP_FIELDS = {"title", "source", "like", "prefix", "rules"}
_RULE_FIELDS = {"layer", "types", "module", "words", "parameters", "shape"}
_MOST_PARENTS = 8


@dataclass(frozen=True)
class Rule:
    """The module of the layers whose names match.

    Attributes:
        layer: the pattern, for the whole name.
        module: the module's path; ``{group}`` is the text of a group of the pattern, and
            ``{group+1}`` its number plus 1. The number of "b12" is 12, that of a letter its place
            in the alphabet from 0.
        types: the layer types that it is for; empty for all.
        words: group -> its text -> what is written for it.
        parameters: Caffe's name of a parameter -> its name there.
        shape: of the weight there: 0 copies a size, -1 is what remains, as in Caffe's Reshape;
            empty is Caffe's shape.
    """

    layer: re.Pattern[str]
    module: str
    types: frozenset[str]
    words: Mapping[str, Mapping[str, str]]
    parameters: Mapping[str, str]
    shape: tuple[int, ...]

    def module_of(self, name: str, type: str) -> str | None:
        """The module of a layer; None where the rule is for others."""
        match = self.layer.fullmatch(name)
        if match is None or (self.types and type not in self.types):
            return None

        def filled(field: re.Match[str]) -> str:
            group, offset = field[1], field[2]
            text = match[group] or ""
            text = self.words.get(group, {}).get(text, text)
            return text if offset is None else str(_number(text) + int(offset))

        return _FIELD.sub(filled, self.module)


def _number(text: str) -> int:
    digits = re.search(r"\d{1,9}$", text)
    if digits:
        return int(digits[0])
    return ord(text) - ord("a") if re.fullmatch("[a-z]", text) else 0


@dataclass(frozen=True)
class NameMap:
    """The names that another program has for Caffe's parameters.

    Attributes:
        name: what ``--names`` takes: a known name, or the path of a JSON file.
        title: the program and its models.
        prefix: what every key starts with.
        rules: in order; the first that matches counts.
    Examples:
        >>> from caffe_port.weights import name_map
        >>> name_map("kazuto1011").module("res4b22_branch2a", "Convolution")[0]
        'layer4.block23.reduce.conv'
    """

    name: str
    title: str
    prefix: str
    rules: tuple[Rule, ...]

    def module(self, layer: str, type: str) -> tuple[str, Rule] | None:
        """The module (without the prefix) of a layer, and the rule that says so; None: no rule."""
        for rule in self.rules:
            if (module := rule.module_of(layer, type)) is not None:
                return module, rule
        return None


def known_name_maps() -> list[str]:
    """The names that ``name_map`` accepts.

    Examples:
        >>> from caffe_port.weights import known_name_maps
        >>> known_name_maps()
        ['isht7', 'kazuto1011', 'timm', 'torchvision']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def name_map(name: str | os.PathLike[str] | NameMap) -> NameMap:
    """A name map by its name, or from a JSON file.

    Args:
        name: one of ``known_name_maps``, a path that ends in .json, or a map as it is.
    Raises:
        UsageError: no such name.
        ReadError: the file cannot be read.
        FormatError: it is not a name map.
    Examples:
        >>> from caffe_port.weights import name_map
        >>> name_map("torchvision").module("scale2a_branch1", "Scale")[0]
        'layer1.0.downsample.1'
    """
    if isinstance(name, NameMap):
        return name
    text = os.fspath(name)
    if text.lower().endswith(".json"):
        return _read(Path(text), text, 0)
    if text not in known_name_maps():
        raise UsageError(
            f"no names '{text}'; known are {', '.join(known_name_maps())}, or give a .json file "
            "with rules of your own"
        )
    return _known(text)


@cache
def _known(name: str) -> NameMap:
    return _read(_FOLDER / f"{name}.json", name, 0)


def _read(path: Path, name: str, depth: int) -> NameMap:
    values = read_json(path)
    try:
        return _parsed(values, path, name, depth)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise FormatError(f"not a name map: {reason(error)}", path=path) from error


def _parsed(values: dict[str, Any], path: Path, name: str, depth: int) -> NameMap:
    _expect_fields(values, _MAP_FIELDS, "the map")
    rules = tuple(_rule(rule, i) for i, rule in enumerate(values.get("rules", []), 1))
    prefix = _text(values.get("prefix", ""), "prefix")
    title = _text(values.get("title", name), "title")
    like = values.get("like")
    if like is None:
        if not rules:
            raise ValueError("it has no rules")
        return NameMap(name, title, prefix, rules)
    if depth == _MOST_PARENTS:
        raise ValueError(f"more than {_MOST_PARENTS} maps that are 'like' another")
    if _text(like, "like") in known_name_maps():
        parent = _known(like)
    else:
        parent = _read(path.parent / like, like, depth + 1)
    own_prefix = prefix if "prefix" in values else parent.prefix
    return replace(parent, name=name, title=title, prefix=own_prefix, rules=(*rules, *parent.rules))


def _rule(values: dict[str, Any], number: int) -> Rule:
    where = f"rule {number}"
    _expect_fields(values, _RULE_FIELDS, where)
    try:
        pattern = re.compile(_text(values["layer"], f"{where}: layer"))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{where}: layer is not a regular expression: {error}") from error
    module = _text(values["module"], f"{where}: module")
    unknown = {field[0] for field in _FIELD.findall(module)} - set(pattern.groupindex)
    if unknown or set("{}") & set(_FIELD.sub("", module)):
        found = ", ".join(sorted(unknown)) or "a brace without a group's name"
        raise ValueError(f"{where}: module has {found}; expected groups of the pattern")
    shape = values.get("shape", [])
    if not isinstance(shape, list) or any(type(size) is not int or size < -1 for size in shape):
        raise ValueError(f"{where}: shape is {shape}; expected whole numbers, 0 or -1")
    if shape.count(-1) > 1:
        raise ValueError(f"{where}: shape has more than one -1")
    types = values.get("types", [])
    if not isinstance(types, list):
        raise ValueError(f"{where}: types is not a list")
    words = values.get("words", {})
    return Rule(
        pattern,
        module,
        frozenset(_text(type, f"{where}: types") for type in types),
        {group: _texts(table, f"{where}: words") for group, table in words.items()},
        _texts(values.get("parameters", {}), f"{where}: parameters"),
        tuple(shape),
    )


def _expect_fields(values: object, known: set[str], where: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{where} is not an object")
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{where} has the fields {', '.join(unknown)}; known: {sorted(known)}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a string")
    return value


def _texts(table: object, where: str) -> dict[str, str]:
    if not isinstance(table, dict):
        raise ValueError(f"{where} is not an object")
    return {key: _text(value, where) for key, value in table.items()}
