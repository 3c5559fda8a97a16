"""Runs each layer alone on what Caffe recorded, so that errors do not travel.

A layer gets Caffe's bottoms, and on the way back Caffe's diffs of its tops. Layers that work in
place share one array in Caffe, so what lies between them was never recorded: they run together
with the blob's first writer (forward) or with the blob's reader (backward).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from caffe_port.parity.recording import Recording
from caffe_port.parity.run import Net, Run, array, params_of, seeds, tensor
from caffe_port.parity.topology import Layer, Topology, is_random


class _MissingBlobError(Exception):
    """A blob that would be needed was not recorded, or is not reproducible."""


@dataclass
class _Bench:
    """One copy of the net, fed by the recording.

    Args:
        leaves: blobs whose gradients the current backward pass collects: (first writer's output,
            the same after the layers that work in place).
    """

    net: Net
    recording: Recording
    topology: Topology
    dtype: torch.dtype
    leaves: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def recorded(self, blob: str) -> Tensor:
        """Caffe's blob after its last writer."""
        if blob not in self.recording.data and blob not in self.recording.inputs:
            raise _MissingBlobError(f"blob '{blob}' was not recorded")
        if blob in self.recording.data:
            return tensor(self.recording.data[blob], self.dtype)
        return tensor(self.recording.inputs[blob], self.dtype)

    def first(self, blob: str) -> tuple[Tensor, tuple[Layer, ...]]:
        """The blob before the layers that work on it in place, and those layers."""
        writers = self.topology.writers[blob]
        if writers and blob not in writers[0].bottoms:
            inputs = [self.recorded(bottom) for bottom in writers[0].bottoms]
            top = self.run(writers[0], inputs)[writers[0].tops.index(blob)]
            return top, writers[1:]
        return tensor(self.recording.inputs[blob], self.dtype), writers

    def chain(self, blob: str, value: Tensor, layers: tuple[Layer, ...]) -> Tensor:
        """Runs the layers that work in place on ``blob``."""
        for layer in layers:
            bottoms = [
                value if bottom == blob else self.leaf(bottom)[1] for bottom in layer.bottoms
            ]
            value = self.run(layer, bottoms)[layer.tops.index(blob)]
        return value

    def run(self, layer: Layer, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
        if is_random(layer, self.net.spec.phase):
            raise _MissingBlobError(f"layer '{layer.name}' draws random numbers")
        return self.net.run_layer(layer.name, bottoms)

    def leaf(self, blob: str) -> tuple[Tensor, Tensor]:
        """The blob as a start for gradients, and what its reader sees."""
        if blob not in self.leaves:
            if len(self.topology.writers[blob]) > 1:
                with torch.no_grad():
                    value, layers = self.first(blob)
                start = value.detach().requires_grad_(self.has_diff(blob))
                self.leaves[blob] = start, self.chain(blob, start, layers)
            else:
                start = self.recorded(blob).requires_grad_(self.has_diff(blob))
                self.leaves[blob] = start, start
        return self.leaves[blob]

    def has_diff(self, blob: str) -> bool:
        """Caffe computed a diff for it."""
        return blob in self.recording.diffs and bool(self.recording.diffs[blob].any())


def run_isolated(net: Net, recording: Recording, topology: Topology, dtype: torch.dtype) -> Run:
    """Like ``run.run``, but each layer starts from what Caffe recorded.

    Blobs that could not be computed so are named in ``skipped`` of the result, with the reason.
    """
    bench = _Bench(net, recording, topology, dtype)
    result = Run()
    with torch.no_grad():
        for blob in topology.blobs:
            if blob in recording.data:
                _forward(bench, blob, result)
    result.after.update(params_of(net, recording.after))
    if recording.meta.backward:
        for layer in topology.layers:
            if not set(layer.tops) & set(layer.bottoms):
                _backward(bench, layer, result)
        for blob in topology.outputs:
            _backward_output(bench, blob, result)
        result.param_diffs.update(params_of(net, recording.param_diffs, gradients=True))
    return result


def _forward(bench: _Bench, blob: str, result: Run) -> None:
    bench.leaves.clear()
    try:
        value, layers = bench.first(blob)
        result.data[blob] = array(bench.chain(blob, value, layers))
    except _MissingBlobError as missing:
        result.skipped["data", blob] = str(missing)


def _backward(bench: _Bench, layer: Layer, result: Run) -> None:
    """Diffs of the layer's bottoms and parameters from Caffe's diffs of its tops."""
    bench.leaves.clear()
    try:
        for bottom in layer.bottoms:
            bench.leaf(bottom)
        tops = bench.run(layer, [bench.leaf(bottom)[1] for bottom in layer.bottoms])
        _start(bench, dict(zip(layer.tops, tops, strict=True)))
    except _MissingBlobError as missing:
        in_place = [w for bottom in layer.bottoms for w in bench.topology.writers[bottom][1:]]
        result.skipped.update({("diff", bottom): str(missing) for bottom in layer.bottoms})
        for skipped in [layer, *in_place]:
            for index in range(len(bench.net.layer_params(skipped.name))):
                result.skipped["pdiff", f"{skipped.name}/{index}"] = str(missing)
        return
    _collect(bench, result)


def _backward_output(bench: _Bench, blob: str, result: Run) -> None:
    """The diff of an output: what was set, passed back through the layers that work in place."""
    bench.leaves.clear()
    given = seeds(bench.recording, bench.topology)
    if blob not in given:
        return
    try:
        value = bench.leaf(blob)[1]
        if value.requires_grad:
            value.backward(tensor(given[blob], bench.dtype).reshape(value.shape))  # type: ignore[no-untyped-call]
    except _MissingBlobError as missing:
        result.skipped["diff", blob] = str(missing)
        return
    _collect(bench, result)


def _start(bench: _Bench, tops: dict[str, Tensor]) -> None:
    values, gradients = [], []
    for name, top in tops.items():
        if not top.requires_grad:
            continue
        if name not in bench.recording.diffs:
            raise _MissingBlobError(f"the diff of '{name}' was not recorded")
        values.append(top)
        gradients.append(tensor(bench.recording.diffs[name], bench.dtype).reshape(top.shape))
    if values:
        torch.autograd.backward(values, gradients)


def _collect(bench: _Bench, result: Run) -> None:
    """Adds the gradients of the leaves; a blob with several readers gets the sum."""
    for blob, (start, _) in bench.leaves.items():
        if not bench.has_diff(blob):
            result.skipped["diff", blob] = "Caffe computed no diff for it"
        elif start.grad is not None:
            gradient = array(start.grad)
            known = result.diffs.get(blob)
            result.diffs[blob] = gradient if known is None else known + gradient
