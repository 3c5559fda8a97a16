"""The text of an emitted module: Python expressions, submodules and parameters."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from caffe_port.export.graph import FAMILIES, Graph, Node, Rules
from caffe_port.spec.ops import Shape

# Python source text from parts that a prototxt names: identifiers, literals, wrapped lines.

WIDTH = 100  # of an emitted line
_OPEN, _CLOSE = "([{", ")]}"


def identifier(name: str, prefix: str) -> str:
    """A valid name near ``name``: every other character becomes an underscore.

    Args:
        name: of a layer or blob; anything.
        prefix: goes before a name that starts with a digit or an underscore.
    """
    text = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return text if re.match(r"[A-Za-z]", text) else f"{prefix}{text}"


def identifiers(names: Iterable[str], prefix: str, reserved: Iterable[str]) -> dict[str, str]:
    """Names to valid ones, no two alike and none reserved, a keyword or a builtin."""
    taken = {*reserved, *keyword.kwlist, *dir(builtins)}
    found = {}
    names = list(dict.fromkeys(names))
    # names that can stay as they are come first, so that no other takes their place
    for name in sorted(names, key=lambda name: identifier(name, prefix) != name):
        text = base = identifier(name, prefix)
        count = 1
        while text in taken:
            count += 1
            text = f"{base}_{count}"
        taken.add(text)
        found[name] = text
    return found


def string(text: str) -> str:
    """A string literal in double quotes, ASCII only; nothing in the text can end it."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def plain(text: str) -> str:
    """The text for a comment or a docstring: what could end either is replaced."""
    return re.sub(r"[^0-9A-Za-z_ .,:;()/+-]", "_", text)


def number(value: float) -> str:
    """The shortest literal that is this number in float32, as Caffe stores its options."""
    short = float(str(np.float32(value)))
    if not np.isfinite(short):
        return f'float("{short}")'
    return str(int(short)) if short == int(short) and abs(short) < 1e6 else repr(short)


def exact(value: float) -> str:
    """A literal of all the digits, where more than one float32 operation depends on them."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)


def sizes(values: tuple[int, ...]) -> str:
    """One number where all are equal, else a tuple."""
    return str(values[0]) if len(set(values)) == 1 else tuple_of(values)


def tuple_of(values: Iterable[object]) -> str:
    """A tuple literal of what str() gives."""
    items = [str(value) for value in values]
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def statement(text: str, indent: int) -> list[str]:
    """Lines of one statement, broken at brackets where it is longer than a line."""
    line = " " * indent + text
    if len(line) <= WIDTH:
        return [line]
    start = _last_group(text)
    if start is None:
        return _in_parentheses(text, indent)
    head, body, tail = text[: start + 1], text[start + 1 : -1], text[-1]
    inner = " " * (indent + 4)
    if len(inner + body) <= WIDTH:
        return [" " * indent + head, inner + body, " " * indent + tail]
    lines = [" " * indent + head]
    for part in _split(body, ","):
        broken = (
            statement(part + ",", indent + 4)
            if len(inner + part) < WIDTH
            else (_with_comma(statement(part, indent + 4)))
        )
        lines += broken
    return [*lines, " " * indent + tail]


def _with_comma(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1] + ","]


def _last_group(text: str) -> int | None:
    """Where the bracket opens that closes at the end of the text."""
    if text[-1] not in _CLOSE:
        return None
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        depth += (text[i] in _CLOSE) - (text[i] in _OPEN)
        if depth == 0:
            return i
    return None


def _in_parentheses(text: str, indent: int) -> list[str]:
    target, equals, value = text.partition(" = ")
    if not equals:
        return [" " * indent + text]
    first, *rest = _split(value, " + ")
    inner = " " * (indent + 4)
    body = (
        [inner + value]
        if len(inner + value) <= WIDTH
        else ([inner + first, *(f"{inner}+ {term}" for term in rest)])
    )
    return [" " * indent + f"{target} = (", *body, " " * indent + ")"]


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text between separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i].strip())
            start = i + len(separator)
    return [*parts, text[start:].strip()]


# What the rules of emitted modules write into.

#: names that an emitted module means something else by
GLOBALS = ("self", "torch", "nn", "F", "Tensor")


@dataclass
class ModuleCode:
    """A module in the making.

    Attributes:
        attributes: layer -> its name in ``self``.
        fields: lines of ``__init__`` as statements.
        keys: state dict key -> (layer, index of the parameter) and the shape it has there.
        helpers: names of what is needed of ``caffe_port.export.emitted``.
        bottoms: variables of the node that is written now.
    """

    attributes: dict[str, str]
    fields: list[str] = field(default_factory=list)
    keys: dict[str, tuple[str, int, Shape]] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    bottoms: list[str] = field(default_factory=list)
    _shared: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def x(self) -> str:
        """The variable of the first bottom."""
        return self.bottoms[0]

    def helper(self, name: str) -> str:
        """The name of a function or class of ``emitted``, which is then part of the module."""
        self.helpers.add(name)
        return name

    def submodule(self, node: Node, value: str, shapes: dict[str, Shape] | None = None) -> str:
        """Adds ``self.<layer> = value``, and what it shares with an earlier layer.

        Args:
            node: whose.
            value: an expression that makes a module with the layer's parameters.
            shapes: of those that have another shape there than in Caffe.
        Returns:
            ``self.<layer>``.
        Raises:
            ValueError: a parameter is shared under another shape.
        """
        attribute = self.attributes[node.layer.name]
        self.fields.append(f"self.{attribute} = {value}")
        for index, param in enumerate(node.layer.params):
            key = f"{attribute}.{param.name}"
            shape = (shapes or {}).get(param.name, param.shape)
            self.keys[key] = (node.layer.name, index, shape)
            owner = param.owner or (node.layer.name, index)
            first = self._shared.setdefault(owner, key)
            if first != key:
                if self.keys[first][2] != shape:
                    raise ValueError(
                        f"its {param.name} of shape {shape} is that of '{first}' with shape "
                        f"{self.keys[first][2]}; only equal shapes can be shared"
                    )
                self.fields.append(f"self.{key} = self.{first}")
        return f"self.{attribute}"


class Variables:
    """Local variables of ``forward``: one per blob, and more where an older value lives on.

    Args:
        graph: what is written.
        reserved: names that are in use.
    """

    def __init__(self, graph: Graph, reserved: set[str]) -> None:
        self._graph = graph
        used = [*graph.inputs, *(top for node in graph.nodes for top in node.tops)]
        blobs = (graph.blobs[value] for value in used)
        self._names = identifiers(blobs, "blob", {*GLOBALS, *reserved})
        self._taken = set(self._names.values()) | {*GLOBALS, *reserved}
        self._last = {v: i for i, node in enumerate(graph.nodes) for v in node.bottoms}
        self._last |= dict.fromkeys(graph.outputs.values(), len(graph.nodes))
        self._held: dict[str, str] = {}
        self._of: dict[str, str] = {}

    def new(self, value: str, at: int) -> str:
        """The variable a value is assigned to by node ``at`` (-1 for an input)."""
        base = self._names[self._graph.blobs[value]]
        name, count = base, 1
        while (name != base and name in self._taken) or self._lives(name, at):
            count += 1
            name = f"{base}_{count}"
        self._held[name], self._of[value] = value, name
        self._last.setdefault(value, at + 1)  # read by none, but not to be lost at once
        return name

    def _lives(self, name: str, at: int) -> bool:
        held = self._held.get(name)
        return held is not None and self._last[held] > at

    def __getitem__(self, value: str) -> str:
        return self._of[value]


#: type -> (node, code) -> the expression of its top, or of a tuple of them where it has several
MODULE_RULES: Rules[ModuleCode, str] = Rules(
    "a PyTorch module",
    "Convert to .pt and run it with caffe_port instead, cut the layer out of the prototxt, or "
    "write a rule for it (caffe_port.export.register_module_rule).",
    [f"caffe_port.export.module_{family}" for family in FAMILIES],
)
