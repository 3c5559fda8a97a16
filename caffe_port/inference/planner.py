"""From a graph to a program: where layer types find how they run fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from caffe_port.inference.graph import Graph, Node
from caffe_port.inference.options import Options
from caffe_port.inference.packing import Store
from caffe_port.net import Net
from caffe_port.spec import LayerSpec

Run: TypeAlias = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Step:
    """Something to run.

    Attributes:
        layer: whose work it is, for messages; the first of several.
        run: tensors of ``inputs`` -> tensors of ``outputs``.
        inputs, outputs: values.
        fresh: whether the outputs are in new memory that nothing else refers to.
    """

    layer: LayerSpec
    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fresh: bool = False


Rule: TypeAlias = Callable[[Node, "Planner"], "Step | None"]
_RULES: dict[str, Rule] = {}


def rule(*types: str) -> Callable[[Rule], Rule]:
    """Decorator: makes a function the rule of these layer types.

    It returns the step that runs the layer, with those after it that it absorbs; None where the
    layer's own module is to run.
    """

    def decorate(made: Rule) -> Rule:
        _RULES.update(dict.fromkeys(types, made))
        return made

    return decorate


@dataclass
class Planner:
    """What rules know and note while steps are made, one layer after the other."""

    net: Net
    graph: Graph
    options: Options
    store: Store
    _computed: set[int] = field(default_factory=set)
    _fresh: set[int] = field(default_factory=set)
    _absorbed: set[str] = field(default_factory=set)

    def steps(self) -> list[Step]:
        """All steps, in order."""
        self._computed.update(self.graph.fed.values())
        steps = []
        for node in self.graph.nodes:
            if node.layer.name in self._absorbed:
                continue
            step = self._step(node)
            self._computed.update(step.outputs)
            self._fresh.update(step.outputs if step.fresh else ())
            steps.append(step)
        return steps

    def _step(self, node: Node) -> Step:
        made = None
        if node.layer.type in _RULES and not has_hooks(self.net, node.layer.name):
            made = _RULES[node.layer.type](node, self)
        return self._as_is(node) if made is None else made

    def _as_is(self, node: Node) -> Step:
        layer, net = node.layer, self.net

        def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
            # whoever wrote the layer had contiguous blobs in mind
            plain = [self.full(x).contiguous() for x in bottoms]
            return tuple(net.placed(top, layer.op.kind) for top in net.run_layer(layer.name, plain))

        return Step(layer, run, node.inputs, node.outputs)

    def full(self, x: Tensor) -> Tensor:
        """A blob in the net's own precision."""
        return x.float() if x.dtype == self.options.reduced else x

    def next_alone(self, value: int) -> Node | None:
        """The one layer that reads a value and may be absorbed, if there is one."""
        reader = self.graph.sole_reader(value)
        if reader is None or len(reader.outputs) != 1 or has_hooks(self.net, reader.layer.name):
            return None
        return reader

    def absorb(self, node: Node) -> int:
        """Leaves a layer to the step that is being made; its output."""
        self._absorbed.add(node.layer.name)
        return node.outputs[0]

    def is_computed(self, value: int) -> bool:
        """Whether a value is there before the step that is being made."""
        return value in self._computed

    def may_overwrite(self, value: int) -> bool:
        """Whether nobody else will miss a value's memory."""
        return value in self._fresh and self.graph.sole_reader(value) is not None


def has_hooks(net: Net, layer: str) -> bool:
    """Whether somebody listens to a layer: it is then run by itself, by its module."""
    module = net.module(layer)
    return bool(module._forward_hooks or module._forward_pre_hooks)
