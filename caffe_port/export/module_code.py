"""The text of an emitted module: Python source text, and what a rule writes into."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe_port.export.graph import FAMILIES, Node, Rules
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
    """Valid names, all different; none is reserved, a keyword or a builtin."""
    taken = {*reserved, *keyword.kwlist, *dir(builtins)}
    found = {}
    names = list(dict.fromkeys(names))
    # names that can stay as they are come first, so that they keep their names
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


def decimal(value: str) -> str:
    """A literal with a decimal point, for an argument that TorchScript expects as a float."""
    return f"{value}.0" if value.lstrip("-").isdigit() else value


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
    """Parts of a text between separators outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i].strip())
            start = i + len(separator)
    return [*parts, text[start:].strip()]


# What the rules of emitted modules write into.

#: names that have a meaning of their own in an emitted module
GLOBALS = ("self", "torch", "nn", "F", "Tensor")


#: what a rule gets for ``self.<layer>`` and for its bottoms; ``fill_in`` puts the names there
_MODULE = "_layer_"
_SLOT = re.compile(r"\b_(layer|bottom(\d+))_\b")


def fill_in(text: str, attribute: str, bottoms: Sequence[str]) -> str:
    """The text that a rule wrote, with the names of one place in the module.

    Args:
        text: an expression that contains slots.
        attribute: of the layer in ``self``.
        bottoms: variables.
    """
    return _SLOT.sub(lambda slot: bottoms[int(slot[2])] if slot[2] else attribute, text)


@dataclass
class ModuleCode:
    """What the rule of a layer writes into.

    Attributes:
        bottoms: expressions of the layer's bottoms.
        helpers: names of the functions and classes of ``caffe_port.export.emitted`` that it needs.
        construct: the expression that makes the layer's submodule; "" if it has none.
        shapes: of its parameters there, in Caffe's order.
        keeps_state: whether the submodule keeps something from one pass to the next.
    """

    bottoms: list[str]
    helpers: set[str] = field(default_factory=set)
    construct: str = ""
    shapes: tuple[Shape, ...] = ()
    keeps_state: bool = False

    @classmethod
    def of(cls, node: Node) -> ModuleCode:
        """An empty one, whose bottoms are slots."""
        return cls([f"_bottom{i}_" for i in range(len(node.bottoms))])

    @property
    def x(self) -> str:
        """The expression of the first bottom."""
        return self.bottoms[0]

    def helper(self, name: str) -> str:
        """The name of a function or class of ``emitted``, which is then part of the module."""
        self.helpers.add(name)
        return name

    def submodule(self, node: Node, value: str, shapes: dict[str, Shape] | None = None) -> str:
        """Makes ``value`` the layer's submodule.

        Args:
            node: the layer that is written.
            value: an expression that makes a module with the layer's parameters.
            shapes: of the parameters that have another shape there than in Caffe.
        Returns:
            The expression of the submodule.
        """
        self.construct = value
        self.shapes = tuple(
            (shapes or {}).get(param.name, param.shape) for param in node.layer.params
        )
        return f"self.{_MODULE}"


#: type -> (node, code) -> the expression of its top, or of a tuple of them where it has several
MODULE_RULES: Rules[ModuleCode, str] = Rules(
    "a PyTorch module",
    "Convert to .pt and run it with caffe_port instead, cut the layer out of the prototxt, or "
    "write a rule for it (caffe_port.export.register_module_rule).",
    [f"caffe_port.export.module_{family}" for family in FAMILIES],
)
