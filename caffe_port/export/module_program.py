"""An emitted module before it is text: functions, their statements, variables, docstrings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caffe_port.export.graph import Node
from caffe_port.export.module_code import GLOBALS, WIDTH, fill_in, identifiers, statement, string
from caffe_port.plan import Connected
from caffe_port.spec.ops import Shape

#: integers of a construct, which may differ between the blocks of a kind
INTEGER = re.compile(r"(?<![\w.-])\d+(?![\w.])")


@dataclass(frozen=True)
class Line:
    """One layer as its rule wrote it.

    Attributes:
        node: the layer.
        value: the expression of its tops, with slots.
        construct: the expression of its submodule, or "".
        shapes: of its parameters in the submodule.
        keeps_state: whether the submodule is for this layer alone, because it keeps a state.
    """

    node: Node
    value: str
    construct: str
    shapes: tuple[Shape, ...]
    keeps_state: bool = False

    @property
    def bottoms(self) -> tuple[str, ...]:
        return self.node.bottoms

    @property
    def tops(self) -> tuple[str, ...]:
        return self.node.tops

    @property
    def name(self) -> str:
        return self.node.layer.name

    @property
    def params(self) -> tuple[tuple[str, int], ...]:
        """Which parameters of the net it has: (layer, index) of the owner of each."""
        params = enumerate(self.node.layer.params)
        return tuple(param.owner or (self.name, i) for i, param in params)

    @property
    def module(self) -> tuple[object, ...]:
        """Two layers for which this is equal can have one submodule."""
        return self.params, self.construct, self.name if self.keeps_state else ""

    @property
    def text(self) -> tuple[str, str, tuple[str, ...]]:
        """What its code depends on, less the names of its blobs and of the layer."""
        return self.value, self.construct, tuple(p.name for p in self.node.layer.params)

    @property
    def parts(self) -> tuple[str, list[str]]:
        """The construct without its integers, and these."""
        return INTEGER.sub("#", self.construct), INTEGER.findall(self.construct)


@dataclass(frozen=True)
class Body:
    """What a function computes.

    Attributes:
        steps: in order.
        inputs, outputs: values.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def lines(self) -> list[Line]:
        """The steps that are single layers."""
        return [step for step in self.steps if isinstance(step, Line)]


@dataclass(frozen=True)
class Call:
    """A call of a method: layers whose parameters others have too.

    Attributes:
        method: number of the method.
        bottoms, tops: values.
    """

    method: int
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


@dataclass(frozen=True)
class Blocks:
    """Blocks of one kind, each of which reads the one before.

    Attributes:
        kind: number of the kind.
        members: which of its blocks.
        bottoms, tops: one value each.
    """

    kind: int
    members: tuple[int, ...]
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


Step: TypeAlias = Line | Call | Blocks
#: the blocks of a kind; the steps of each are lines
Kind: TypeAlias = list[Body]


@dataclass
class Program:
    """A module's functions.

    Attributes:
        forward: the main one.
        methods: those that are called several times.
        kinds: the blocks.
    """

    forward: Body
    methods: list[Body]
    kinds: list[Kind]

    @property
    def bodies(self) -> list[Body]:
        return [self.forward, *self.methods]


class Variables:
    """Local variables of a function: one per blob, and more where an older value is still used.

    Args:
        steps: the bottoms and tops of its statements.
        inputs, outputs: values.
        blobs: value -> blob.
        reserved: names that are in use.
    """

    def __init__(
        self,
        steps: Sequence[Connected[str]],
        inputs: Sequence[str],
        outputs: Iterable[str],
        blobs: Mapping[str, str],
        reserved: set[str],
    ) -> None:
        self._blobs = blobs
        used = [*inputs, *(top for step in steps for top in step.tops)]
        self._names = identifiers((blobs[v] for v in used), "blob", {*GLOBALS, *reserved})
        self._taken = set(self._names.values()) | {*GLOBALS, *reserved}
        self._last = {v: i for i, step in enumerate(steps) for v in step.bottoms}
        self._last |= dict.fromkeys(outputs, len(steps))
        self._held: dict[str, str] = {}
        self._of: dict[str, str] = {}

    def new(self, value: str, at: int) -> str:
        """The variable that statement ``at`` assigns a value to (-1 for an input)."""
        base = self._names[self._blobs[value]]
        name, count = base, 1
        while (name != base and name in self._taken) or self._lives(name, at):
            count += 1
            name = f"{base}_{count}"
        self._held[name], self._of[value] = value, name
        self._last.setdefault(value, at + 1)  # an unused top must not take another top's variable
        return name

    def _lives(self, name: str, at: int) -> bool:
        held = self._held.get(name)
        return held is not None and self._last[held] > at

    def __getitem__(self, value: str) -> str:
        return self._of[value]


class Scope:
    """Writes functions of a class.

    Args:
        blobs: value -> blob.
        reserved: names that variables cannot have.
        attribute: of a line or of blocks in ``self``.
        methods: names, by number.
    """

    def __init__(
        self, blobs: Mapping[str, str], reserved: set[str],
        attribute: Callable[[Step], str], methods: Mapping[int, str],
    ) -> None:  # fmt: skip
        self._blobs, self._reserved = blobs, reserved
        self._attribute, self._methods = attribute, methods

    def function(
        self, name: str, body: Body, doc: str = "", outputs: Mapping[str, str] | None = None
    ) -> list[str]:
        """The lines of one function.

        Args:
            name: of the function.
            body: what it computes.
            doc: its docstring.
            outputs: blob -> value, where the result is a dict.
        """
        variables = Variables(body.steps, body.inputs, body.outputs, self._blobs, self._reserved)
        parameters = "".join(f", {variables.new(value, -1)}: Tensor" for value in body.inputs)
        lines = []
        for i, step in enumerate(body.steps):
            value = self._expression(step, [variables[bottom] for bottom in step.bottoms])
            tops = ", ".join(variables.new(top, i) for top in step.tops)
            if value != tops:
                lines += statement(f"{tops} = {value}", 8)
        found = [variables[value] for value in body.outputs]
        kind = "Tensor" if len(found) == 1 else f"tuple[{', '.join(['Tensor'] * len(found))}]"
        result = ", ".join(found)
        if outputs is not None:
            kind = "dict[str, Tensor]"
            pairs = (f"{string(blob)}: {variables[value]}" for blob, value in outputs.items())
            result = f"{{{', '.join(pairs)}}}"
        head = signature(f"def {name}(self{parameters}) -> {kind}:")
        return [
            *head,
            *(docstring(doc, 8) if doc else []),
            *lines,
            *statement(f"return {result}", 8),
        ]

    def _expression(self, step: Step, bottoms: list[str]) -> str:
        if isinstance(step, Line):
            return fill_in(step.value, self._attribute(step), bottoms)
        if isinstance(step, Call):
            return f"self.{self._methods[step.method]}({', '.join(bottoms)})"
        return f"self.{self._attribute(step)}({bottoms[0]})"


def docstring(text: str, indent: int) -> list[str]:
    """A docstring, on one line or on several."""
    space = " " * indent
    if len(space + text) + 6 <= WIDTH:
        return [f'{space}"""{text}"""']
    return [
        *textwrap.wrap(
            f'"""{text}', WIDTH, initial_indent=space, subsequent_indent=space,
            break_long_words=False,
        ),
        f'{space}"""',
    ]  # fmt: skip


def comment(text: str, indent: int) -> list[str]:
    """A comment."""
    space = f"{' ' * indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=f"{space}    ")


def signature(text: str) -> list[str]:
    """The head of a method, on one line or on several."""
    line = f"    {text}"
    if len(line) <= WIDTH:
        return [line]
    name, _, rest = text.partition("(")
    inner, _, result = rest.rpartition(") -> ")
    return [
        f"    {name}(",
        *(f"        {part}," for part in inner.split(", ")),
        f"    ) -> {result}",
    ]
