"""How verification computes a layer: exactly with errors, or as the port does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from caffe_port.parity import rounding
from caffe_port.parity.bench import Bench
from caffe_port.parity.rounding import Term
from caffe_port.parity.topology import Layer


class Calculator(Protocol):
    """How a layer is computed."""

    @property
    def bench(self) -> Bench: ...
    def forward(self, layer: Layer, bottoms: list[Term]) -> list[Term]: ...
    def state(self, layer: Layer, bottoms: list[Term], before: list[Term]) -> list[Term]: ...
    def backward(
        self,
        layer: Layer,
        bottoms: list[Term],
        diffs: list[Term | None],
        wanted: list[bool],
    ) -> tuple[list[Term | None], list[Term | None]]: ...


@dataclass(frozen=True)
class ExactCalculator:
    """In float64, with the error that a float32 computation may have."""

    bench: Bench

    def forward(self, layer: Layer, bottoms: list[Term]) -> list[Term]:
        return rounding.forward(self.bench, layer, bottoms)

    def state(self, layer: Layer, bottoms: list[Term], before: list[Term]) -> list[Term]:
        return rounding.state(self.bench, layer, bottoms, before)

    def backward(
        self,
        layer: Layer,
        bottoms: list[Term],
        diffs: list[Term | None],
        wanted: list[bool],
    ) -> tuple[list[Term | None], list[Term | None]]:
        return rounding.backward(self.bench, layer, bottoms, diffs, wanted)


@dataclass(frozen=True)
class PlainCalculator:
    """As the port computes it, without errors."""

    bench: Bench

    def forward(self, layer: Layer, bottoms: list[Term]) -> list[Term]:
        return [Term(top) for top in self.bench.forward(layer, [b.value for b in bottoms])]

    def state(self, layer: Layer, bottoms: list[Term], before: list[Term]) -> list[Term]:
        values = [b.value for b in bottoms], [p.value for p in before]
        return [Term(after) for after in self.bench.state(layer, *values)]

    def backward(
        self,
        layer: Layer,
        bottoms: list[Term],
        diffs: list[Term | None],
        wanted: list[bool],
    ) -> tuple[list[Term | None], list[Term | None]]:
        given = [None if diff is None else diff.value for diff in diffs]
        found = self.bench.backward(layer, [b.value for b in bottoms], given, wanted)
        first, second = ([None if g is None else Term(g) for g in part] for part in found)
        return first, second
