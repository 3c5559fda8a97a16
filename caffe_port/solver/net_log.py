"""What Caffe logs while it builds a net.

Source: BVLC/caffe net.cpp, Init, AppendTop, AppendBottom.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.log import WARNING, log
from caffe_port.solver.places import Place
from caffe_port.spec import LayerSpec, NetSpec

if TYPE_CHECKING:
    from caffe_port.net import Net


def log_net(spec: NetSpec) -> None:
    """Writes a net's text, its layers' blobs with their shapes, and what they need in memory."""
    text = print_text(written(spec))
    _log(spec, Place.INITIALIZING_NET, "Initializing net from parameters: ", body=text)
    memory = 0
    for layer in spec.layers:
        memory = _log_layer(spec, layer, memory)
    for layer in reversed(spec.layers):
        name = layer.prototxt_name
        if layer.needs_backward:
            _log(spec, Place.BACKWARD, f"{name} needs backward computation.")
        else:
            _log(spec, Place.NO_BACKWARD, f"{name} does not need backward computation.")
    for name in spec.outputs:
        _log(spec, Place.OUTPUT, f"This network produces output {name}")
    _log(spec, Place.INITIALIZED, "Network initialization done.")


class LoadLog:
    """Writes what the weights of one net had that it lacks, and what none of its files has."""

    def __init__(self) -> None:
        self._missing: dict[str, None] | None = None

    def loaded(self, net: Net) -> None:
        """After each file: layers of it that the net does not have."""
        assert net.loaded is not None
        for layer in net.loaded.extra:
            _log(net.spec, Place.IGNORING_LAYER, f"Ignoring source layer {layer}")
        missing = dict.fromkeys(net.loaded.missing)
        if self._missing is not None:
            missing = {param: None for param in self._missing if param in missing}
        self._missing = missing

    def finish(self) -> None:
        """After the last file: parameters that no file had."""
        for param in self._missing or ():
            log(f"{param} is not in the weights and keeps its filler", WARNING, place="net.cpp:1")


def _log(spec: NetSpec, place: Place, message: str, body: str | None = None) -> None:
    log(message, place=place.of(spec.dialect), body=body)


def written(spec: NetSpec) -> caffe_pb2.NetParameter:
    """The net as somebody would write it: without the Split layers that were put in."""
    net = spec.message()
    if not net.force_backward:
        net.ClearField("force_backward")
    copies: dict[str, str] = {}
    for layer in net.layer:
        if _put_in(layer):
            copies.update(dict.fromkeys(layer.top, layer.bottom[0]))
    kept = [layer for layer in net.layer if not _put_in(layer)]
    del net.layer[:]
    net.layer.extend(kept)
    for layer in net.layer:
        layer.bottom[:] = [copies.get(name, name) for name in layer.bottom]
        layer.ClearField("phase")
    return net


def _put_in(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.type == "Split" and layer.name.endswith("_split")


def _log_layer(spec: NetSpec, layer: LayerSpec, memory: int) -> int:
    """Returns the memory that the tops of all layers so far need."""
    name = layer.prototxt_name
    if not spec.dialect.startswith("deeplab"):
        log(f"Creating layer {name}", place="layer_factory.hpp:77")
    _log(spec, Place.CREATING_LAYER, f"Creating Layer {name}")
    for bottom in layer.bottoms:
        _log(spec, Place.BOTTOM, f"{name} <- {bottom}")
    for top in layer.tops:
        if top in layer.bottoms:
            _log(spec, Place.IN_PLACE, f"{name} -> {top} (in-place)")
        else:
            _log(spec, Place.TOP, f"{name} -> {top}")
    _log(spec, Place.SETTING_UP, f"Setting up {name}")
    for shape, weight in zip(layer.top_shapes, layer.loss_weights, strict=True):
        sizes = "".join(f"{size} " for size in shape)
        _log(spec, Place.TOP_SHAPE, f"Top shape: {sizes}({math.prod(shape)})")
        if weight:
            _log(spec, Place.LOSS_WEIGHT, f"    with loss weight {weight:g}")
        memory += 4 * math.prod(shape)
    _log(spec, Place.MEMORY, f"Memory required for data: {memory}")
    return memory
