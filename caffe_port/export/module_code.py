"""What the rules of emitted modules write into."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffe_port.export.graph import Graph, Node
from caffe_port.export.python_text import identifiers
from caffe_port.export.rules import Rules
from caffe_port.spec.ops import Shape

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
    "write a rule for it in caffe_port/export.",
)
