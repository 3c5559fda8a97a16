"""Layers that change, through Caffe's memory, what other layers compute.

Caffe's backward pass reads some blobs again, as the last layer in place has left them, and some
blobs have the memory of another one, into which a layer in place writes too. Autograd does neither.
Most nets have layers in place, and few have side effects: ReLU and Dropout in place behind a
convolution have none, Dropout in place behind Sigmoid has one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from caffe_port.errors import SideEffectWarning
from caffe_port.spec.netspec import LayerSpec, NetSpec
from caffe_port.spec.ops import Reads


@dataclass(frozen=True)
class SideEffect:
    """One layer's effect on another one.

    Attributes:
        layer: the layer that causes it.
        text: what happens.
        in_forward: whether data differ, not only diffs.
    """

    layer: LayerSpec
    text: str
    in_forward: bool

    def __str__(self) -> str:
        """What happens, and how to avoid it."""
        if self.layer.in_place:
            return f"{self.text}; give the layer in place a top of its own to avoid it"
        return f"{self.text}; Reshape in place of the layer avoids it"


def find_side_effects(spec: NetSpec) -> list[SideEffect]:
    """Finds where Caffe's numbers are not those of the layers' formulas.

    Args:
        spec: in its phase; Dropout in TEST, for instance, changes nothing.
    Returns:
        In the order of the layers; empty where autograd gives Caffe's numbers.
    Examples:
        >>> from caffe_port.spec import NetSpec
        >>> spec = NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> find_side_effects(spec)
        []

    Source: BVLC/caffe, Backward_cpu of each layer; ShareData and ShareDiff where they are called.
    """
    memory = _Memory(spec)
    found: list[SideEffect] = []
    for place, layer in enumerate(spec.layers):
        if layer.in_place and layer.op.writes(layer.phase):
            found += _effects_in_place(spec, memory, place)
        if layer.type == "Flatten" and layer.bottom_needs_backward[0]:
            blob = layer.bottoms[0]
            if blob in memory.shared_diffs:
                text = f"{_name(layer)} parts the diff of '{blob}' from the one it is shared with"
                found.append(SideEffect(layer, f"{text}, which gets no diff", in_forward=False))
    return found


def warn_of_side_effects(spec: NetSpec, learns: bool) -> bool:
    """Warns that a net, as a torch module, does not compute what Caffe does.

    Args:
        spec: of the net.
        learns: whether gradients are computed too; those matter in phase TRAIN only.
    Returns:
        Whether there was something to warn of.
    """
    learns = learns and spec.phase == "TRAIN"
    effect = next((effect for effect in spec.side_effects if effect.in_forward or learns), None)
    if effect is not None:
        what = "Data and diffs" if effect.in_forward else "Diffs"
        message = f"{what} of net '{spec.name}' are not Caffe's: {effect}"
        warnings.warn(message, SideEffectWarning, stacklevel=6)
    return effect is not None


class _Memory:
    """Which blobs have the same memory in Caffe.

    Attributes:
        of: blob -> the first blob with its data's memory.
        users: first blob -> the places of the layers that have a blob in that memory.
        kept: first blob -> the layer that does not write that memory at each forward pass, because
            it is a constant, an array of the caller or a parameter.
        shared_diffs: blobs whose diff is another blob's, or a parameter's, from set-up on.
    """

    def __init__(self, spec: NetSpec) -> None:
        self.of: dict[str, str] = {}
        self.kept: dict[str, LayerSpec] = {}
        self.shared_diffs: set[str] = set()
        shown: dict[tuple[str, int], str] = {}  # parameter -> the blob that shows it
        for layer in spec.layers:
            for i, top in enumerate(layer.tops):
                self.of.setdefault(top, top)
                if layer.op.kind == "source" and not layer.op.renews(i):
                    self.kept[top] = layer
            if layer.op.shared_memory == "parameter":
                (top,) = layer.tops
                self.of[top] = shown.setdefault(layer.params[0].owner or (layer.name, 0), top)
                self.kept[self.of[top]] = layer
                self.shared_diffs.add(top)
            elif layer.shares_data:
                self.of.update(dict.fromkeys(layer.tops, self.of[layer.bottoms[0]]))
                if layer.shares_diff:
                    self.shared_diffs.update(layer.tops)
        self.users: dict[str, list[int]] = {}
        for place, layer in enumerate(spec.layers):
            for first in dict.fromkeys(self.of[b] for b in (*layer.bottoms, *layer.tops)):
                self.users.setdefault(first, []).append(place)

    def reads(self, layer: LayerSpec, first: str) -> Reads:
        """What the backward pass of a layer reads of the memory of a blob."""
        op, in_place = layer.op, layer.in_place
        bottoms = [op.reads_bottom(i, in_place) for i in self._places(layer.bottoms, first)]
        tops = [op.reads_top(i, in_place) for i in self._places(layer.tops, first)]
        return max(bottoms + tops, default=Reads.NOTHING)

    def _places(self, blobs: tuple[str, ...], first: str) -> list[int]:
        return [i for i, blob in enumerate(blobs) if self.of[blob] == first]


def _effects_in_place(spec: NetSpec, memory: _Memory, place: int) -> Iterator[SideEffect]:
    """The effects of the layer in place that is the ``place``-th of the net."""
    layer = spec.layers[place]
    blob, first = layer.tops[0], memory.of[layer.tops[0]]
    start = f"{_name(layer)} overwrites blob '{blob}'"
    if first in memory.kept:
        source = _name(memory.kept[first])
        yield SideEffect(layer, f"{start}, which {source} does not fill again before a pass", True)
    writes, users = layer.op.writes(layer.phase), memory.users[first]
    before = [spec.layers[user] for user in users if user < place]
    after = [spec.layers[user] for user in users if user > place]
    for other in before:
        if other.needs_backward and writes.spoils(memory.reads(other, first)):
            yield SideEffect(
                layer, f"{start}, which the backward pass of {_name(other)} reads", False
            )
    views = {top for other in before for top in other.tops if memory.of[top] == first} - {blob}
    for other in after:
        for name in views.intersection(other.bottoms):
            reader = f"also blob '{name}', which {_name(other)} reads later"
            yield SideEffect(layer, f"{start}, whose memory is {reader}", True)
    for name in sorted(views.intersection(spec.outputs)):
        yield SideEffect(layer, f"{start}, whose memory is also the output '{name}'", True)


def _name(layer: LayerSpec) -> str:
    return f"layer '{layer.prototxt_name}' ({layer.type})"
