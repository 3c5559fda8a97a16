"""Runs a net on a recording's inputs and keeps what the recording has to compare with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_port.errors import ParityError
from caffe_port.parity.recording import Recording
from caffe_port.parity.topology import Plan, Topology

Floats = NDArray[np.floating[Any]]


class Blobs(Protocol):
    """What a forward pass returns: tensors by name, and their diffs after a backward pass."""

    def __getitem__(self, name: str, /) -> Tensor: ...
    def __contains__(self, name: object, /) -> bool: ...
    def diff(self, name: str, /) -> Tensor | None: ...


class Net(Protocol):
    """What verification needs of a net; ``caffe_port.Net`` has it."""

    @property
    def spec(self) -> Plan: ...
    def __call__(
        self, inputs: Mapping[str, Tensor], /, *, keep: Literal["outputs", "all"] | list[str]
    ) -> Blobs: ...
    def run_layer(self, name: str, bottoms: list[Tensor], /) -> tuple[Tensor, ...]: ...
    def layer_params(self, name: str, /) -> Sequence[Tensor]: ...
    def to(self, dtype: torch.dtype, /) -> Any: ...


@dataclass(frozen=True)
class Run:
    """What one run gave, as arrays of the run's dtype; names as in ``Recording``.

    ``skipped`` holds the reason for each (kind, name) the run could not give.
    """

    data: dict[str, Floats] = field(default_factory=dict)
    diffs: dict[str, Floats] = field(default_factory=dict)
    param_diffs: dict[tuple[str, int], Floats] = field(default_factory=dict)
    after: dict[tuple[str, int], Floats] = field(default_factory=dict)
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)


def copy_as(net: Net, dtype: torch.dtype) -> Net:
    """A copy of the net with parameters of that type; a run of it leaves the net as it was."""
    duplicate: Net = copy.deepcopy(net).to(dtype)
    return duplicate


def run(net: Net, recording: Recording, topology: Topology, dtype: torch.dtype) -> Run:
    """Runs forward, and backward when the recording has diffs.

    Args:
        net: changed by the run (gradients, running statistics): pass a copy.
        recording: what to feed and what to keep.
        topology: of this net.
        dtype: float32 or float64, that of the net's parameters.
    Raises:
        ParityError: the recording has no input the net needs.
    """
    missing = [blob for blob in net.spec.inputs if blob not in recording.inputs]
    if missing:
        raise ParityError(
            f"{recording.path} has no input '{missing[0]}', which the net reads; "
            f"it has {', '.join(recording.inputs) or 'none'}"
        )
    inputs = {name: tensor(values, dtype) for name, values in recording.inputs.items()}
    backward = recording.meta.backward and len(recording.diffs) + len(recording.param_diffs) > 0
    wanted = [blob for blob in topology.blobs if blob in recording.data]
    with torch.set_grad_enabled(backward):
        blobs = net(inputs, keep="all" if backward else wanted)
    result = Run(data={name: array(blobs[name]) for name in wanted if name in blobs})
    result.after.update(params_of(net, recording.after))
    if backward:
        _run_backward(blobs, recording, topology, dtype)
        for name in recording.diffs:
            if name in blobs:
                result.diffs[name] = _diff(blobs.diff(name), blobs[name])
        result.param_diffs.update(params_of(net, recording.param_diffs, gradients=True))
    return result


def tensor(values: NDArray[np.float32], dtype: torch.dtype) -> Tensor:
    """A tensor of its own memory."""
    return torch.from_numpy(np.array(values)).to(dtype)


def array(values: Tensor) -> Floats:
    """An array that later changes of the tensor do not reach."""
    copied: Floats = values.detach().cpu().numpy().copy()
    return copied


def seeds(recording: Recording, topology: Topology) -> dict[str, NDArray[np.float32]]:
    """The diffs that start the backward pass: the recorded ones, or else the outputs' diffs.

    For a loss Caffe itself sets the output's diff to its loss weight, and that is recorded.
    """
    if recording.topdiffs:
        return dict(recording.topdiffs)
    outputs = {b: recording.diffs[b] for b in topology.outputs if b in recording.diffs}
    return {blob: diff for blob, diff in outputs.items() if diff.any()}


def _run_backward(
    blobs: Blobs, recording: Recording, topology: Topology, dtype: torch.dtype
) -> None:
    starts, gradients = [], []
    for name, values in seeds(recording, topology).items():
        if name not in blobs:
            raise ParityError(f"{recording.path} sets the diff of '{name}', no blob of the net")
        if values.size != blobs[name].numel():
            raise ParityError(
                f"{recording.path}: topdiff of '{name}' has shape {list(values.shape)}, "
                f"the blob {list(blobs[name].shape)}"
            )
        if blobs[name].requires_grad:
            starts.append(blobs[name])
            gradients.append(tensor(values, dtype).reshape(blobs[name].shape))
    if starts:
        torch.autograd.backward(starts, gradients)


def _diff(diff: Tensor | None, blob: Tensor) -> Floats:
    """Diffs nobody computes are 0 in Caffe."""
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
