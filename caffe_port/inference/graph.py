"""The steps of a pass as values that are each written once; layers in place are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from caffe_port.plan import Plan
from caffe_port.spec import LayerSpec


@dataclass(frozen=True)
class Node:
    """A layer that computes, and the values that it reads and makes."""

    layer: LayerSpec
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Graph:
    """The layers of a pass.

    Attributes:
        nodes: in order.
        fed: value of each blob that the caller gives.
        kept: value of each blob that is returned.
        count: number of values.
    """

    nodes: list[Node]
    fed: dict[str, int]
    kept: dict[str, int]
    count: int
    _readers: dict[int, list[Node]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            for value in node.inputs:
                self._readers.setdefault(value, []).append(node)

    def sole_reader(self, value: int) -> Node | None:
        """The one layer that reads a value; None if several do, none does, or it is returned."""
        readers = self._readers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.kept.values() else None


def make_graph(plan: Plan, fed: Iterable[str], is_identity: Callable[[LayerSpec], bool]) -> Graph:
    """The graph of a plan.

    Args:
        plan: what runs.
        fed: blobs that the caller gives.
        is_identity: whether a layer's tops are its bottom, so that it needs not run.
    """
    values = {name: number for number, name in enumerate(fed)}
    given, count, nodes = dict(values), len(values), []
    for step in plan.steps:
        inputs = tuple(values[blob] for blob in step.layer.bottoms)
        if is_identity(step.layer):
            values.update(dict.fromkeys(step.layer.tops, inputs[0]))
            continue
        outputs = tuple(range(count, count + len(step.layer.tops)))
        count += len(outputs)
        nodes.append(Node(step.layer, inputs, outputs))
        values.update(zip(step.layer.tops, outputs, strict=True))
    return Graph(nodes, given, {name: values[name] for name in plan.kept}, count)
