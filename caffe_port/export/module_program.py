"""An emitted module before it is text: its functions, and the steps of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from caffe_port.export.graph import Node
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
