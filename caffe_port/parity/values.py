"""The blobs of one run, Caffe's or the port's, and choices between values equal within rounding."""

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
from caffe_port.parity.bench import HOST, Bench, Blobs, Net
from caffe_port.parity.recording import Recording
from caffe_port.parity.topology import Layer, Topology, fact

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


def run_port(
    net: Net, recording: Recording, topology: Topology, device: torch.device = HOST
) -> PortRun:
    """Runs the net on the recording's inputs, forward, and backward where diffs were recorded.

    Args:
        net: float32; changed by the run (gradients, running statistics): pass a copy.
        recording: what to feed.
        topology: of this net.
        device: where the net is.
    Raises:
        ParityError: the recording sets a diff that does not fit.
    """
    inputs = {
        name: tensor(values, torch.float32).to(device) for name, values in recording.inputs.items()
    }
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
            gradients.append(
                tensor(values, torch.float32).reshape(blobs[name].shape).to(blobs[name])
            )
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


# Choices between values that are equal within rounding.
#
# A label is decided by which of two scores is larger, max pooling by which element of a window is.
# Caffe's run and the port's may decide differently where the values are equal within rounding.
# Each run is compared with what is exact for its own numbers, so neither is wrong; the places are
# counted.

Scores = NDArray[np.float32]
Places = NDArray[np.bool_]


def is_choice(layer: Layer, top: int) -> bool:
    """Top number ``top`` of the layer holds indices: ArgMax's labels, max pooling's mask."""
    if layer.type == "ArgMax":
        return not getattr(layer.op, "out_max_val", False)
    return layer.type == "Pooling" and top == 1


def choice_ties(
    layer: Layer, scores: Scores, port: NDArray[np.floating], caffe: Scores, error: float
) -> Places:
    """Places where the port's choice and Caffe's have scores that tie within ``error``.

    Args:
        layer: an ArgMax or a max Pooling with a mask.
        scores: what it chose from, as Caffe recorded it.
        port, caffe: indices chosen, same shape.
        error: two scores that differ by at most this tie.
    Returns:
        places in the shape of ``caffe``; all False when the scores cannot be laid out.
    """
    axis, table = 1, scores.reshape(*scores.shape[:1], -1) if scores.ndim else scores
    chosen = (port, caffe)
    if layer.type == "Pooling":
        axis, table = 2, scores.reshape(*scores.shape[:2], -1)
    elif (given := getattr(layer.op, "axis", None)) is not None:
        axis, table = int(given) % scores.ndim, scores
    elif caffe.ndim == 4 and caffe.shape[2:] == scores.shape[2:] and scores.ndim == 4:
        table = scores  # old DeepLab: one label per pixel
    if layer.type == "Pooling" or table.ndim != caffe.ndim:
        chosen = (port.reshape(*table.shape[:axis], -1), caffe.reshape(*table.shape[:axis], -1))
    picked = [_pick(table, index, axis) for index in chosen]
    if picked[0] is None or picked[1] is None:
        return np.zeros(caffe.shape, bool)
    return (np.abs(picked[0] - picked[1]) <= error).reshape(caffe.shape)


@dataclass(frozen=True)
class Routes:
    """Places of a blob that a layer treats differently in two runs.

    Args:
        count: how many; a window of max pooling that chooses another element counts twice.
        first: the index of the first, in Caffe's axis order.
    """

    count: int
    first: tuple[int, ...]

    def __bool__(self) -> bool:
        return self.count > 0


def routes_that_differ(
    bench: Bench, topology: Topology, blob: str, caffe: Values, port: Values
) -> Routes:
    """Where the readers of a blob that choose (max pooling, ReLU, ...) choose differently.

    Both runs' data are right within rounding, so the values between which they choose are equal
    within it. The route is read off the diff of the blob when all diffs of the tops are 1.

    Args:
        bench: a float32 copy of the net.
        topology: of the net.
        blob: which blob.
        caffe, port: the two runs.
    """
    readers = [*topology.readers.get(blob, ()), *topology.writers[blob][1:]]
    differ: Places | None = None
    for layer in readers:
        if not (fact(layer, "chooses") or fact(layer, "kink_at_zero")):
            continue
        sides = [_route(bench, layer, blob, run) for run in (caffe, port)]
        if sides[0] is None or sides[1] is None:
            continue
        places = sides[0] != sides[1].reshape(sides[0].shape)
        differ = places if differ is None else differ | places
    if differ is None or not differ.any():
        return Routes(0, ())
    first = tuple(int(i) for i in np.unravel_index(int(differ.argmax()), differ.shape))
    return Routes(int(differ.sum()), first)


def _route(bench: Bench, layer: Layer, blob: str, run: Values) -> NDArray[np.floating] | None:
    if any(bottom not in run.data for bottom in layer.bottoms):
        return None
    bottoms = [tensor(run.data[bottom], torch.float32) for bottom in layer.bottoms]
    tops = bench.forward(layer, bottoms)
    ones: list[Tensor | None] = [torch.ones_like(top) for top in tops]
    wanted = [bottom == blob for bottom in layer.bottoms]
    diffs, _ = bench.backward(layer, bottoms, ones, wanted)
    return next((array(diff) for diff in diffs if diff is not None), None)


def _pick(table: Scores, index: NDArray[np.floating], axis: int) -> NDArray[np.float64] | None:
    whole = index.astype(np.int64)
    if table.ndim != whole.ndim or (whole != index).any() or not index.size:
        return None
    if whole.min() < 0 or whole.max() >= table.shape[axis]:
        return None
    others = [n for i, n in enumerate(table.shape) if i != axis]
    if others != [n for i, n in enumerate(whole.shape) if i != axis]:
        return None
    picked: NDArray[np.float64] = np.take_along_axis(table, whole, axis).astype(np.float64)
    return picked
