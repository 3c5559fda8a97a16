"""What a forward pass runs, given which blobs are fed and which are kept. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.errors import UsageError
from caffe_port.spec import LayerSpec, NetSpec


@dataclass(frozen=True)
class Step:
    """One layer to run, and the blobs that nobody needs after it."""

    layer: LayerSpec
    free: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The layers of a forward pass.

    Attributes:
        steps: in order.
        kept: blobs that are returned.
        keep_all: whether these are all blobs, and diffs are kept too.
        needs_diff: blobs that a layer gives a diff to in Caffe.
    """

    steps: tuple[Step, ...]
    kept: frozenset[str]
    keep_all: bool
    needs_diff: frozenset[str]


def make_plan(
    spec: NetSpec, fed: frozenset[str], keep: str | frozenset[str], write_files: bool
) -> Plan:
    """Plans a forward pass.

    Args:
        spec: the net.
        fed: blobs that the caller gives.
        keep: 'outputs', 'all' or blob names.
        write_files: whether layers that only write files are run.
    Raises:
        UsageError: data is missing, or a name in ``keep`` cannot be computed.
    """
    layers = _runnable(spec, fed)
    if not write_files:
        layers = [layer for layer in layers if layer.tops or layer.op.kind != "sink"]
    if isinstance(keep, frozenset):
        _check_names(spec, fed, layers, keep)
        layers = _needed(layers, keep)
        kept = keep
    elif keep == "outputs":
        _check_inputs(spec, fed)
        kept = _outputs(layers)
    elif keep == "all":
        _check_inputs(spec, fed)
        kept = fed.union(*(layer.tops for layer in layers))
    else:
        raise UsageError(f"keep is {keep!r}; expected 'outputs', 'all' or a list of blob names")
    needs = {
        blob
        for layer in layers
        for blob, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True)
        if needed and layer.needs_backward
    }
    steps = _with_frees(layers, kept)
    return Plan(tuple(steps), kept, keep == "all", frozenset(needs))


def _runnable(spec: NetSpec, fed: frozenset[str]) -> list[LayerSpec]:
    """Layers whose bottoms can all be had; data layers of which nothing is fed."""
    available = set(fed)
    layers = []
    for layer in spec.layers:
        if layer.op.kind == "source":
            runs = layer.type != "Input" and fed.isdisjoint(layer.tops)
        else:
            runs = available.issuperset(layer.bottoms)
        if runs:
            layers.append(layer)
            available.update(layer.tops)
    return layers


def _check_inputs(spec: NetSpec, fed: frozenset[str]) -> None:
    missing = [name for name in spec.inputs if name not in fed]
    if missing:
        raise UsageError(f"no data given for the inputs {', '.join(missing)}")


def _check_names(
    spec: NetSpec, fed: frozenset[str], layers: Sequence[LayerSpec], names: frozenset[str]
) -> None:
    for name in sorted(names):
        if name not in spec.shapes:
            raise UsageError(f"keep names '{name}', which is no blob of the net")
    made = fed.union(*(layer.tops for layer in layers))
    for name in sorted(names - made):
        lacking = [blob for blob in spec.sources if blob not in made]
        raise UsageError(f"'{name}' cannot be computed without {', '.join(lacking)}")


def _needed(layers: Sequence[LayerSpec], names: frozenset[str]) -> list[LayerSpec]:
    wanted = set(names)
    chosen = []
    for layer in reversed(layers):
        if not wanted.isdisjoint(layer.tops):
            wanted.update(layer.bottoms)
            chosen.append(layer)
    return chosen[::-1]


def _outputs(layers: Sequence[LayerSpec]) -> frozenset[str]:
    """Blobs that nothing computes with. What a sink reads is an output, under its own name."""
    copies: dict[str, str] = {}
    unread: set[str] = set()
    for layer in layers:
        if layer.is_inserted:
            copies.update(dict.fromkeys(layer.tops, layer.bottoms[0]))
            continue
        if layer.op.kind != "sink":
            unread.difference_update(copies.get(blob, blob) for blob in layer.bottoms)
        unread.update(layer.tops)
    return frozenset(unread)


def _with_frees(layers: Sequence[LayerSpec], kept: frozenset[str]) -> list[Step]:
    last = {blob: i for i, layer in enumerate(layers) for blob in (*layer.bottoms, *layer.tops)}
    steps = []
    for i, layer in enumerate(layers):
        touched = dict.fromkeys((*layer.bottoms, *layer.tops))
        free = [blob for blob in touched if last[blob] == i and blob not in kept]
        steps.append(Step(layer, tuple(free)))
    return steps
