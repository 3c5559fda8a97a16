"""Which layers of a net run for the blobs that are given, what they need, and what is freed when.

Every way through a net uses these functions: a net's forward pass, the solver's steps, optimized
nets, export, tracing and verification. Live nets run all their layers and free nothing, because
scripts read and write any blob at any time. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from caffe_port.errors import UsageError
from caffe_port.spec import LayerSpec, NetSpec

Key = TypeVar("Key", bound=Hashable)
Key_co = TypeVar("Key_co", bound=Hashable, covariant=True)
Data = TypeVar("Data")


class Connected(Protocol[Key_co]):
    """A layer, or something else that is run, between blobs (by name) or values (by number)."""

    @property
    def bottoms(self) -> tuple[Key_co, ...]: ...
    @property
    def tops(self) -> tuple[Key_co, ...]: ...


class Typed(Connected[str], Protocol):
    """A layer of a type."""

    @property
    def type(self) -> str: ...


class Freeing(Connected[Key_co], Protocol[Key_co]):
    """What is run, with the blobs or values that nothing needs after it."""

    @property
    def free(self) -> tuple[Key_co, ...]: ...


LayerT = TypeVar("LayerT", bound=Typed)
NodeT = TypeVar("NodeT", bound=Connected[Any])
StepT = TypeVar("StepT", bound=Freeing[Any])


def runnable(layers: Iterable[LayerT], fed: Collection[str]) -> list[LayerT]:
    """The layers whose bottoms can be computed. A data layer runs where none of its tops is given.

    Args:
        layers: of a net, in order.
        fed: blobs that the caller gives.
    """
    available = set(fed)
    found = []
    for layer in layers:
        if layer.bottoms:
            runs = available.issuperset(layer.bottoms)
        else:
            runs = layer.type != "Input" and available.isdisjoint(layer.tops)
        if runs:
            found.append(layer)
            available.update(layer.tops)
    return found


def needed(nodes: Sequence[NodeT], wanted: Iterable[Hashable]) -> list[NodeT]:
    """Those of some nodes, in order, that the wanted blobs or values are computed by."""
    reached = set(wanted)
    found = []
    for node in reversed(nodes):
        if not reached.isdisjoint(node.tops):
            reached.update(node.bottoms)
            found.append(node)
    return found[::-1]


def freed_after(nodes: Sequence[Connected[Key]], kept: Collection[Key]) -> list[tuple[Key, ...]]:
    """For each node the blobs or values that it is the last to read or write.

    Args:
        nodes: in the order in which they run.
        kept: what is not freed.
    """
    last = {key: i for i, node in enumerate(nodes) for key in (*node.bottoms, *node.tops)}
    return [
        tuple(
            key
            for key in dict.fromkeys((*node.bottoms, *node.tops))
            if last[key] == i and key not in kept
        )
        for i, node in enumerate(nodes)
    ]


def run_steps(
    steps: Iterable[StepT],
    values: MutableMapping[Any, Data],
    compute: Callable[[StepT, list[Data]], Sequence[Data]],
) -> None:
    """Runs steps one after the other and frees what nothing needs any more.

    Args:
        steps: in order.
        values: what is given, by blob name or number; what is computed and kept is added.
        compute: (step, its bottoms) -> its tops.
    """
    for step in steps:
        _put(values, step.tops, compute(step, [values[key] for key in step.bottoms]))
        for key in step.free:
            del values[key]


def _put(values: MutableMapping[Any, Data], keys: Sequence[Any], found: Sequence[Data]) -> None:
    # a function of its own, so that no local variable keeps a blob that is freed
    for key, value in zip(keys, found, strict=True):
        values[key] = value


@dataclass(frozen=True)
class Node:
    """A layer between values: numbers of writings of blobs, see ``Numbering``."""

    layer: LayerSpec
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]


class Numbering:
    """Numbers the writings of blobs. A layer in place writes a new value under the blob's name.

    Args:
        fed: blobs that are there from the start.
    Attributes:
        blobs: value -> its blob.
        current: blob -> its latest value.
    """

    def __init__(self, fed: Iterable[str] = ()) -> None:
        self.blobs: list[str] = []
        self.current: dict[str, int] = {}
        self.write(fed)

    def write(self, blobs: Iterable[str]) -> tuple[int, ...]:
        """Gives each of the blobs a new value."""
        first = len(self.blobs)
        self.blobs += blobs
        values = range(first, len(self.blobs))
        self.current.update(zip(self.blobs[first:], values, strict=True))
        return tuple(values)

    def connect(self, layer: LayerSpec) -> Node:
        """The layer, reading the latest values and writing new ones."""
        bottoms = tuple(self.current[blob] for blob in layer.bottoms)
        return Node(layer, bottoms, self.write(layer.tops))

    def rename(self, layer: LayerSpec) -> None:
        """Makes the tops of a layer that copies other names of its first bottom's value."""
        value = self.current[layer.bottoms[0]]
        self.current.update(dict.fromkeys(layer.tops, value))


@dataclass(frozen=True)
class Step:
    """One layer to run, and the blobs that nothing needs after it."""

    layer: LayerSpec
    free: tuple[str, ...]

    @property
    def bottoms(self) -> tuple[str, ...]:
        """The layer's bottoms."""
        return self.layer.bottoms

    @property
    def tops(self) -> tuple[str, ...]:
        """The layer's tops."""
        return self.layer.tops


@dataclass(frozen=True)
class Plan:
    """The layers of a forward pass.

    Attributes:
        steps: in order.
        kept: blobs that are returned.
        keep_all: whether these are all blobs, and diffs are kept too.
        needs_diff: blobs that get a diff from a layer in Caffe.
    """

    steps: tuple[Step, ...]
    kept: frozenset[str]
    keep_all: bool
    needs_diff: frozenset[str]


def make_plan(
    spec: NetSpec, fed: frozenset[str], keep: str | frozenset[str], write_files: bool
) -> Plan:
    """Chooses the layers of a forward pass.

    Args:
        spec: the net.
        fed: blobs that the caller gives.
        keep: 'outputs', 'all' or blob names.
        write_files: whether layers that only write files are run.
    Raises:
        UsageError: data is missing, or a name in ``keep`` cannot be computed.
    """
    layers = runnable(spec.layers, fed)
    if not write_files:
        layers = [layer for layer in layers if layer.tops or layer.op.kind != "sink"]
    if isinstance(keep, frozenset):
        _check_names(spec, fed, layers, keep)
        layers = needed(layers, keep)
        kept = keep
    elif keep == "outputs":
        _check_inputs(spec, fed)
        kept = _outputs(layers)
    elif keep == "all":
        _check_inputs(spec, fed)
        kept = fed.union(*(layer.tops for layer in layers))
    else:
        raise UsageError(f"keep is {keep!r}; expected 'outputs', 'all' or a list of blob names")
    needs_diff = {
        blob
        for layer in layers
        for blob, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True)
        if needed and layer.needs_backward
    }
    steps = map(Step, layers, freed_after(layers, kept))
    return Plan(tuple(steps), kept, keep == "all", frozenset(needs_diff))


def _check_inputs(spec: NetSpec, fed: frozenset[str]) -> None:
    missing = [name for name in spec.inputs if name not in fed]
    if missing:
        raise UsageError(f"no data given for the inputs {', '.join(missing)}")


def _check_names(
    spec: NetSpec, fed: frozenset[str], layers: Sequence[LayerSpec], names: frozenset[str]
) -> None:
    for name in sorted(names):
        if name not in spec.shapes:
            raise UsageError(f"keep names '{name}', which is not a blob of the net")
    available = fed.union(*(layer.tops for layer in layers))
    for name in sorted(names - available):
        missing = [blob for blob in spec.sources if blob not in available]
        raise UsageError(f"'{name}' cannot be computed without {', '.join(missing)}")


def _outputs(layers: Sequence[LayerSpec]) -> frozenset[str]:
    """Blobs that no layer computes with. What a sink reads is an output, under its own name."""
    copies: dict[str, str] = {}
    unread: set[str] = set()
    for layer in layers:
        if layer.is_inserted:
            copies.update(dict.fromkeys(layer.tops, layer.bottoms[0]))
            continue
        if layer.op.kind != "sink":
            # a set, not a generator, which torch.compile leaves out of difference_update
            unread -= {copies.get(blob, blob) for blob in layer.bottoms}
        unread.update(layer.tops)
    return frozenset(unread)
