"""What Caffe logs while it builds a net.

Source: BVLC/caffe net.cpp, Init, AppendTop, AppendBottom.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.log import WARNING, log
from caffe_port.spec import LayerSpec, NetSpec

if TYPE_CHECKING:
    from caffe_port.net import Net

_PLACE = "net.cpp:1"


def log_net(spec: NetSpec) -> None:
    """Writes a net's text, its layers' blobs with their shapes, and what they need in memory."""
    log("Initializing net from parameters: ", place=_PLACE, body=print_text(written(spec)))
    memory = 0
    for layer in spec.layers:
        memory = _log_layer(layer, memory)
    for layer in reversed(spec.layers):
        needs = "needs" if layer.needs_backward else "does not need"
        log(f"{layer.prototxt_name} {needs} backward computation.", place=_PLACE)
    for name in spec.outputs:
        log(f"This network produces output {name}", place=_PLACE)
    log("Network initialization done.", place=_PLACE)


def log_loaded(net: Net) -> None:
    """Writes what weights that were just loaded had too much, and what they lacked."""
    assert net.loaded is not None
    for layer in net.loaded.extra:
        log(f"Ignoring source layer {layer}", place=_PLACE)
    for param in net.loaded.missing:
        log(f"{param} is not in the weights and keeps its filler", WARNING, place=_PLACE)


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


def _log_layer(layer: LayerSpec, memory: int) -> int:
    """Returns the memory that the tops of all layers so far need."""
    log(f"Creating Layer {layer.prototxt_name}", place=_PLACE)
    for name in layer.bottoms:
        log(f"{layer.prototxt_name} <- {name}", place=_PLACE)
    for name in layer.tops:
        note = " (in-place)" if name in layer.bottoms else ""
        log(f"{layer.prototxt_name} -> {name}{note}", place=_PLACE)
    log(f"Setting up {layer.prototxt_name}", place=_PLACE)
    for shape, weight in zip(layer.top_shapes, layer.loss_weights, strict=True):
        sizes = "".join(f"{size} " for size in shape)
        log(f"Top shape: {sizes}({math.prod(shape)})", place=_PLACE)
        if weight:
            log(f"    with loss weight {weight:g}", place=_PLACE)
        memory += 4 * math.prod(shape)
    log(f"Memory required for data: {memory}", place=_PLACE)
    return memory
