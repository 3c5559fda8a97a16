"""Caffe's log lines about a net: its creation, and debug_info."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.log import ERROR, WARNING, Place, log
from caffe_port.spec import LayerSpec, NetSpec

if TYPE_CHECKING:
    from caffe_port.live.blob import Blob, Floats
    from caffe_port.live.net import Net as LiveNet
    from caffe_port.net import Net


class DebugInfo:
    """Logs mean absolute values of blobs, diffs and parameters, layer by layer (debug_info).

    Args:
        net: the net.
        wanted: whether to log at present.
    Source: BVLC/caffe net.cpp, ForwardDebugInfo, BackwardDebugInfo, UpdateDebugInfo, Backward.
    """

    def __init__(self, net: LiveNet, wanted: Callable[[], bool]) -> None:
        self._net, self._wanted, self._specs = net, wanted, net._net.spec.layers
        net.after_forward(self._forward)
        net.after_backward(self._backward)

    def _forward(self, index: int) -> None:
        if not self._wanted():
            return
        layer = self._specs[index]
        for top in layer.tops:
            what, values = f"top blob {top} data", self._net.blobs[top].data
            self._line(Place.DEBUG_TOP, "Forward", layer, what, values)
        for name, blob in zip(self._names(index), self._blobs(index), strict=True):
            self._line(Place.DEBUG_PARAM, "Forward", layer, f"param blob {name} data", blob.data)

    def _backward(self, index: int) -> None:
        layer = self._specs[index]
        if self._wanted() and layer.needs_backward:
            for bottom, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True):
                if needed:
                    what, diff = f"bottom blob {bottom} diff", self._net.blobs[bottom].diff
                    self._line(Place.DEBUG_BOTTOM, "Backward", layer, what, diff)
            for i, (param, blob) in enumerate(zip(layer.params, self._blobs(index), strict=True)):
                if param.lr_mult:
                    what = f"param blob {i} diff"
                    self._line(Place.DEBUG_PARAM_DIFF, "Backward", layer, what, blob.diff)
        if self._wanted() and index == 0:
            self._norms()

    def _norms(self) -> None:
        """The norms of all parameters and their diffs, after the last layer."""
        owned = {id(blob): blob for blobs in self._net._own_params.values() for blob in blobs}
        blobs = list(owned.values())
        sums = [
            (_sum(np.abs, (getattr(b, what) for b in blobs)),
             _sum(np.square, (getattr(b, what) for b in blobs)) ** 0.5)
            for what in ("data", "diff")
        ]  # fmt: skip
        (l1_data, l2_data), (l1_diff, l2_diff) = sums
        log(
            f"    [Backward] All net params (data, diff): L1 norm = ({l1_data:g}, {l1_diff:g}); "
            f"L2 norm = ({l2_data:g}, {l2_diff:g})",
            ERROR,
            self._at(Place.DEBUG_NORMS),
        )

    def update(self) -> None:
        """Logs the parameters as they were before an update, and what was subtracted from them."""
        if not self._wanted():
            return
        for index, layer in enumerate(self._specs):
            triples = zip(self._names(index), layer.params, self._blobs(index), strict=True)
            for name, param, blob in triples:
                diff = _mean(blob.diff)
                if param.owner is None:
                    before = _mean(blob.data + blob.diff)
                    place, what = Place.DEBUG_UPDATE, f"param {name} data: {before:g};"
                else:
                    owner, index_there = param.owner
                    place = Place.DEBUG_UPDATE_SHARED
                    what = f"param blob {name} (owned by layer {owner}, param {index_there})"
                words = f"    [Update] Layer {layer.prototxt_name}, {what} diff: {diff:g}"
                log(words, place=self._at(place))

    def _names(self, index: int) -> list[str]:
        given = [param.name for param in self._specs[index].message.param]
        count = len(self._specs[index].params)
        return [given[i] if i < len(given) and given[i] else str(i) for i in range(count)]

    def _blobs(self, index: int) -> list[Blob]:
        return list(self._net._own_params.get(self._specs[index].name, ()))

    def _line(self, place: Place, way: str, layer: LayerSpec, what: str, values: Floats) -> None:
        words = f"    [{way}] Layer {layer.prototxt_name}, {what}: {_mean(values):g}"
        log(words, place=self._at(place))

    def _at(self, place: Place) -> str:
        return place.of(self._net._net.spec.dialect)


def _mean(values: Floats) -> float:
    return float(np.abs(values).mean()) if values.size else 0.0


def _sum(of: Callable[[Floats], Floats], arrays: Iterable[Floats]) -> float:
    return float(sum(of(array).sum(dtype=np.float64) for array in arrays))


def log_net(spec: NetSpec) -> None:
    """Logs a net as Caffe does when it builds one: text, layers, shapes, memory.

    Source: BVLC/caffe net.cpp, Init, AppendTop, AppendBottom.
    """
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
    """Logs layers of weight files that a net lacks, and parameters that no file has."""

    def __init__(self) -> None:
        self._missing: dict[str, None] | None = None

    def loaded(self, net: Net) -> None:
        """Called after each file: logs its layers that the net lacks."""
        assert net.loaded is not None
        for layer in net.loaded.extra:
            _log(net.spec, Place.IGNORING_LAYER, f"Ignoring source layer {layer}")
        missing = dict.fromkeys(net.loaded.missing)
        if self._missing is not None:
            missing = {param: None for param in self._missing if param in missing}
        self._missing = missing

    def finish(self) -> None:
        """Called after the last file: logs the parameters that no file has."""
        for param in self._missing or ():
            log(f"{param} is not in the weights and keeps its filler", WARNING, place="net.cpp:1")


def _log(spec: NetSpec, place: Place, message: str, body: str | None = None) -> None:
    log(message, place=place.of(spec.dialect), body=body)


def written(spec: NetSpec) -> caffe_pb2.NetParameter:
    """The message of a net without the Split layers that were inserted."""
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
    """Logs a layer; returns the memory of the tops of all layers so far."""
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
