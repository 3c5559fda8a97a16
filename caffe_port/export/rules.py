"""Where layer types find how they are exported: one table per kind of output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from caffe_port.errors import LayerError, UnsupportedLayerError, counted
from caffe_port.export.graph import Graph, Node

Writer = TypeVar("Writer")
Result = TypeVar("Result")


class Rules(Generic[Writer, Result]):
    """Layer type -> function (node, writer) that writes it.

    A rule raises ValueError where it cannot express a layer's options; the layer's name is added
    here.

    Args:
        output: what is made, for messages.
        other: what to do where a type has no rule, for messages.
    """

    def __init__(self, output: str, other: str) -> None:
        self._output, self._other = output, other
        self._rules: dict[str, Callable[[Node, Writer], Result]] = {}

    def add(
        self, *types: str
    ) -> Callable[[Callable[[Node, Writer], Result]], Callable[[Node, Writer], Result]]:
        """Decorator: makes a function the rule of these types.

        Raises:
            ValueError: one of them has a rule already.
        """

        def decorate(
            rule: Callable[[Node, Writer], Result],
        ) -> Callable[[Node, Writer], Result]:
            for type in types:
                if type in self._rules:
                    raise ValueError(f"layer type '{type}' has a rule for {self._output} already")
                self._rules[type] = rule
            return rule

        return decorate

    def types(self) -> list[str]:
        """The types with a rule, sorted."""
        return sorted(self._rules)

    def check(self, graph: Graph) -> None:
        """Makes sure that every layer has a rule.

        Raises:
            UnsupportedLayerError: one has none; its message counts all such types.
        """
        lacking = [node.layer for node in graph.nodes if node.layer.type not in self._rules]
        if lacking:
            types = [layer.type for layer in lacking]
            also = f". All that cannot: {counted(types)}" if len(types) > 1 else ""
            raise UnsupportedLayerError(
                lacking[0].name,
                lacking[0].type,
                f"this type cannot be written as {self._output}{also}. {self._other} "
                "docs/export.md lists the types that can",
            )

    def apply(self, node: Node, writer: Writer) -> Result:
        """Runs the rule of a node.

        Raises:
            LayerError: the layer's options cannot be expressed.
        """
        try:
            return self._rules[node.layer.type](node, writer)
        except ValueError as error:
            message = f"cannot be written as {self._output}: {error}"
            raise LayerError(node.layer.name, node.layer.type, message) from error
