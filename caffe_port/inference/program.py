"""A planned pass: its steps, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from caffe_port.inference import (
    winograd,  # noqa: F401  (their rules)
)
from caffe_port.inference.planner import Graph, Options, Planner, Step, Store, has_hooks, make_graph
from caffe_port.net import Net, run_guarded
from caffe_port.plan import Plan
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.neurons import Dropout


class Program:
    """Runs a plan's steps.

    Args:
        net: whose layers they are.
        plan: which blobs are kept, and what they need.
        fed: blobs that the caller gives.
        options: what may be done.
        store: of packed parameters, shared by the programs of a net.
    """

    def __init__(
        self, net: Net, plan: Plan, fed: Sequence[str], options: Options, store: Store
    ) -> None:
        def is_identity(layer: LayerSpec) -> bool:
            still = isinstance(layer.op, Dropout) and layer.op.keeps_values(layer.phase)
            return (still or layer.type == "Split") and not has_hooks(net, layer.name)

        self._graph = make_graph(plan, fed, is_identity)
        self._steps = Planner(net, self._graph, options, store).steps()
        self._frees = _frees(self._steps, self._graph)
        self._reduced = options.reduced
        self._backend = options.compile
        self._compiled: dict[Hashable, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {}

    def run(self, fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Blobs given -> blobs kept, contiguous and in full precision."""
        if self._backend is None:
            return self._compute(fed, _run)
        key = tuple((name, x.shape, x.dtype, x.device) for name, x in sorted(fed.items()))
        if key in self._compiled:
            return self._compiled[key](fed)
        # run as it is first: that settles how each step computes, and finds what does not fit
        blobs = self._compute(fed, _run)

        def compute(fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return self._compute(fed, _run_unguarded)

        self._compiled[key] = torch.compile(compute, backend=self._backend, dynamic=False)
        return blobs

    def _compute(
        self, fed: Mapping[str, Tensor], run: Callable[[Step, list[Tensor]], tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        values: list[Tensor | None] = [None] * self._graph.count
        for name, value in self._graph.fed.items():
            values[value] = fed[name]
        for step, free in zip(self._steps, self._frees, strict=True):
            tops = run(step, [_there(values[i]) for i in step.inputs])
            for value, top in zip(step.outputs, tops, strict=True):
                values[value] = top
            del tops
            for value in free:
                values[value] = None
        kept = {name: _there(values[value]) for name, value in self._graph.kept.items()}
        return {name: self._finished(x) for name, x in kept.items()}

    def _finished(self, x: Tensor) -> Tensor:
        return (x.float() if x.dtype == self._reduced else x).contiguous()


def _there(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def _run(step: Step, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
    return run_guarded(step.run, step.layer, bottoms)


def _run_unguarded(step: Step, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
    return step.run(*bottoms)


def _frees(steps: Sequence[Step], graph: Graph) -> list[list[int]]:
    """After each step, the values that nobody reads any more."""
    kept = set(graph.kept.values())
    last: dict[int, int] = dict.fromkeys(graph.fed.values(), 0)
    for number, step in enumerate(steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), number))
    frees: list[list[int]] = [[] for _ in steps]
    for value, number in last.items():
        if value not in kept and steps:
            frees[number].append(value)
    return frees
