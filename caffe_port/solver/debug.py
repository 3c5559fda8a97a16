"""debug_info: mean absolute values of blobs, diffs and parameters as a net runs.

Source: BVLC/caffe net.cpp, ForwardDebugInfo, BackwardDebugInfo, UpdateDebugInfo, Backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.solver.log import ERROR, log
from caffe_port.solver.places import Place

if TYPE_CHECKING:
    from caffe_port.live.blob import Blob, Floats
    from caffe_port.live.net import Net
    from caffe_port.spec import LayerSpec


class DebugInfo:
    """Logs what a net computes, layer by layer, where it is asked to.

    Args:
        net: the net.
        wanted: whether to log at present.
    """

    def __init__(self, net: Net, wanted: Callable[[], bool]) -> None:
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
