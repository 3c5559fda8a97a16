"""What verification needs to know of a net's plan: who makes a blob, who reads it, what is random.

Works on the specification alone (no torch). A blob that layers change in place has several
writers; Caffe keeps one array for it, so they are compared together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from caffe_port.plan import runnable
from caffe_port.spec.ops.neurons import Dropout


class Layer(Protocol):
    """The part of ``LayerSpec`` that is used here."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def bottoms(self) -> tuple[str, ...]: ...
    @property
    def tops(self) -> tuple[str, ...]: ...
    @property
    def op(self) -> object: ...


class Plan(Protocol):
    """The part of ``NetSpec`` that is used here."""

    @property
    def name(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...


@dataclass(frozen=True)
class Topology:
    """Who writes and reads the blobs of a net.

    Args:
        blobs: all, in net order of their first writer; fed ones first.
        writers: layers that write the blob, in net order; () for fed blobs.
        readers: layers that read it after its last writer.
        layers: all that run, in net order.
        random_data: blobs that depend on a random draw.
        random_diffs: blobs whose diff does.
    """

    blobs: tuple[str, ...]
    writers: dict[str, tuple[Layer, ...]]
    readers: dict[str, tuple[Layer, ...]]
    layers: tuple[Layer, ...]
    random_data: frozenset[str]
    random_diffs: frozenset[str]

    def random_blobs(self, kind: str) -> frozenset[str]:
        """Blobs whose data ("data") or diff ("diff") depends on a random draw."""
        return self.random_data if kind == "data" else self.random_diffs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Blobs no layer reads."""
        return tuple(blob for blob in self.blobs if not self.readers[blob])


def study(spec: Plan, fed: frozenset[str]) -> Topology:
    """Reads the topology off a specification.

    Args:
        spec: the net.
        fed: blobs the recording sets.
    """
    layers = tuple(runnable(spec.layers, fed))
    blobs = [blob for blob in spec.inputs if blob in fed]
    blobs += [top for layer in spec.layers for top in layer.tops if top in fed]
    blobs += [top for layer in layers for top in layer.tops]
    writers: dict[str, list[Layer]] = {blob: [] for blob in blobs}
    readers: dict[str, list[Layer]] = {blob: [] for blob in blobs}
    for layer in layers:
        for bottom in dict.fromkeys(layer.bottoms):
            if bottom not in layer.tops:
                readers[bottom].append(layer)
        for top in layer.tops:
            writers[top].append(layer)
    random_data = _random_data(spec.phase, layers, fed)
    return Topology(
        blobs=tuple(dict.fromkeys(blobs)),
        writers={blob: tuple(found) for blob, found in writers.items()},
        readers={blob: tuple(found) for blob, found in readers.items()},
        layers=layers,
        random_data=random_data,
        random_diffs=_random_diffs(spec.phase, layers, random_data),
    )


def fact(layer: Layer, name: str) -> bool:
    """Whether the layer's op states a fact of ``Op``, such as ``kink_at_zero``."""
    return bool(getattr(layer.op, name, False))


def is_random(layer: Layer, phase: str) -> bool:
    """The layer draws numbers, so that no two runs of it agree."""
    # with ratio 0 every element is kept, whatever is drawn
    drops = isinstance(layer.op, Dropout) and layer.op.drops(phase) and layer.op.ratio != 0
    return drops or fact(layer, "draws")


def _random_data(phase: str, layers: tuple[Layer, ...], fed: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for layer in layers:
        if is_random(layer, phase) or found.intersection(layer.bottoms):
            found.update(layer.tops)
    return frozenset(found - fed)


def _random_diffs(
    phase: str, layers: tuple[Layer, ...], random_data: frozenset[str]
) -> frozenset[str]:
    """A bottom's diff is random when its reader's blobs or its tops' diffs are."""
    found: set[str] = set()
    for layer in reversed(layers):
        blobs = {*layer.bottoms, *layer.tops}
        if is_random(layer, phase) or blobs & random_data or found.intersection(layer.tops):
            found.update(layer.bottoms)
    return frozenset(found)
