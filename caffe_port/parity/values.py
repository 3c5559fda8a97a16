"""The blobs of one run, Caffe's or the port's: what each layer was given and what it gave."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_port.errors import ParityError
from caffe_port.parity.bench import Blobs, Net
from caffe_port.parity.recording import Recording
from caffe_port.parity.topology import Topology

Floats = NDArray[np.floating[Any]]

#: Arrays of a recording that are kept after they were read; the next layer reads them again.
KEPT = 6


@dataclass
class Values:
    """The arrays of one run. All arrays are float32, in Caffe's axis order.

    Args:
        data: blobs after the pass (with in-place layers, the last writer's).
        diffs: blobs after the backward pass (of the first writer's output).
        filled, filled_diffs: tensors computed here for blobs that are not known.
        variance, diff_variance: sigma^2 of these, float64.
    """

    data: Mapping[str, Floats]
    diffs: Mapping[str, Floats]
    filled: dict[str, Tensor] = field(default_factory=dict)
    filled_diffs: dict[str, Tensor] = field(default_factory=dict)
    variance: dict[str, Tensor] = field(default_factory=dict)
    diff_variance: dict[str, Tensor] = field(default_factory=dict)


class _Cached(Mapping[str, Floats]):
    """Keeps the arrays that were read last."""

    def __init__(self, *sources: Mapping[str, Floats]) -> None:
        self.sources = sources
        self.kept: OrderedDict[str, Floats] = OrderedDict()

    def __getitem__(self, name: str) -> Floats:
        if name not in self.kept:
            self.kept[name] = next(source[name] for source in self.sources if name in source)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(name)
        return self.kept[name]

    def __contains__(self, name: object) -> bool:
        return any(name in source for source in self.sources)

    def __iter__(self) -> Any:
        return iter(dict.fromkeys(name for source in self.sources for name in source))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def recorded_values(recording: Recording) -> Values:
    """Caffe's run."""
    return Values(_Cached(recording.data, recording.inputs), _Cached(recording.diffs))


@dataclass(frozen=True)
class PortRun:
    """The port's run of the whole net in float32: its blobs and parameters, as arrays."""

    values: Values
    param_diffs: Mapping[tuple[str, int], Floats]
    after: Mapping[tuple[str, int], Floats]


def run_port(net: Net, recording: Recording, topology: Topology) -> PortRun:
    """Runs the net on the recording's inputs, forward, and backward where diffs were recorded.

    Args:
        net: float32; changed by the run (gradients, running statistics): pass a copy.
        recording: what to feed.
        topology: of this net.
    Raises:
        ParityError: the recording sets a diff that does not fit.
    """
    inputs = {name: tensor(values, torch.float32) for name, values in recording.inputs.items()}
    backward = has_backward(recording)
    with torch.set_grad_enabled(backward):
        blobs = net(inputs, keep="all")
    if backward:
        _run_backward(blobs, recording, topology)
    known = [name for name in topology.blobs if name in blobs]
    data = {name: array(blobs[name]) for name in known}
    diffs = {name: _diff(blobs.diff(name), blobs[name]) for name in known} if backward else {}
    return PortRun(
        Values(data, diffs),
        params_of(net, recording.param_diffs, gradients=True),
        params_of(net, recording.after),
    )


def has_backward(recording: Recording) -> bool:
    """Diffs were recorded."""
    return recording.meta.backward and len(recording.diffs) + len(recording.param_diffs) > 0


def check_inputs(net: Net, recording: Recording) -> None:
    """Raises ParityError unless the recording has every input that the net reads."""
    missing = [blob for blob in net.spec.inputs if blob not in recording.inputs]
    if missing:
        raise ParityError(
            f"{recording.path} has no input '{missing[0]}', which the net reads; "
            f"it has {', '.join(recording.inputs) or 'none'}"
        )


def tensor(values: Floats, dtype: torch.dtype) -> Tensor:
    """A tensor of its own memory."""
    return torch.from_numpy(np.array(values)).to(dtype)


def array(values: Tensor) -> Floats:
    """An array that later changes of the tensor do not reach."""
    copied: Floats = values.detach().cpu().numpy().copy()
    return copied


def seeds(recording: Recording, topology: Topology) -> dict[str, Floats]:
    """The diffs that start the backward pass: the recorded ones, or else the outputs' diffs.

    For a loss Caffe itself sets the output's diff to its loss weight, and that is recorded.

    Raises:
        ParityError: one is of no blob, or of another size than the blob.
    """
    if recording.topdiffs:
        return dict(recording.topdiffs)
    outputs = {b: recording.diffs[b] for b in topology.outputs if b in recording.diffs}
    return {blob: diff for blob, diff in outputs.items() if diff.any()}


def _run_backward(blobs: Blobs, recording: Recording, topology: Topology) -> None:
    starts, gradients = [], []
    for name, values in seeds(recording, topology).items():
        if name not in blobs:
            raise ParityError(f"{recording.path} sets the diff of '{name}', not a blob of the net")
        if values.size != blobs[name].numel():
            raise ParityError(
                f"{recording.path}: topdiff of '{name}' has shape {list(values.shape)}, "
                f"the blob {list(blobs[name].shape)}"
            )
        if blobs[name].requires_grad:
            starts.append(blobs[name])
            gradients.append(tensor(values, torch.float32).reshape(blobs[name].shape))
    if starts:
        torch.autograd.backward(starts, gradients)


def _diff(diff: Tensor | None, blob: Tensor) -> Floats:
    """Diffs that are not computed are 0 in Caffe."""
    return array(torch.zeros_like(blob) if diff is None else diff)


def params_of(
    net: Net, keys: Mapping[tuple[str, int], object], *, gradients: bool = False
) -> dict[tuple[str, int], Floats]:
    """The net's parameters, or their gradients, under the recording's keys."""
    known = {layer.name for layer in net.spec.layers}
    found: dict[tuple[str, int], Floats] = {}
    for layer, index in keys:
        params = net.layer_params(layer) if layer in known else ()
        if index < len(params):
            param = params[index]
            found[layer, index] = _diff(param.grad, param) if gradients else array(param)
    return found
