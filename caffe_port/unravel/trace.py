"""Seg-Unravel: the points of the image, and of every blob in between, that caused each label.

From the label map down, each point of a blob is replaced by the points of the bottom blobs that add
most to it. All points of a blob are traced together; those of several labels are traced once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.plan import make_plan
from caffe_port.spec import NetSpec
from caffe_port.unravel.points import Points, PointSet
from caffe_port.unravel.rules import Passage, Shift, expect_rules, find_rule

if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.blobs import Array
    from caffe_port.net import Net
    from caffe_port.spec import LayerSpec


@dataclass(frozen=True)
class FrameOrder:
    """The order in which an animation shows blobs: trunk, branches side by side, inputs.

    Attributes:
        trunk: blobs that every point passes through.
        branches: chains of blobs that share nothing but the inputs; none or at least 2.
        inputs: the blobs in which the points end.
    """

    trunk: tuple[str, ...]
    branches: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...]

    def frames(self, longest: int) -> list[tuple[str | None, ...]]:
        """The blobs of each frame: one, or one of each branch (None where it was not reached).

        Args:
            longest: blobs are left out evenly so that there are at most this many frames.
        """
        length = max((len(branch) for branch in self.branches), default=0)
        parallel: list[tuple[str | None, ...]] = [
            tuple(
                branch[at * len(branch) // length] if branch else None for branch in self.branches
            )
            for at in range(length)
        ]
        trunk: list[tuple[str | None, ...]] = [(name,) for name in self.trunk]
        middle = _thinned([*trunk, *parallel], max(1, longest - len(self.inputs)))
        return [*middle, *((name,) for name in self.inputs)]


def frame_order(spec: NetSpec, top: str, reached: Collection[str]) -> FrameOrder:
    """Finds the trunk and the branches, such as the three scales of the multi-scale ResNet.

    Args:
        spec: the net.
        top: the blob in which the points start.
        reached: blobs that have points to show; a branch without any is kept.
    """
    blobs = _above(spec, top)
    inputs = tuple(name for name in blobs if name in spec.sources and name in reached)
    rest = [name for name in blobs if name not in spec.sources]
    below = _readers(spec)
    parts: list[list[str]] = []
    for trunk in range(1, len(rest)):
        parts = _parts(rest[trunk:], below)
        if len(parts) > 1:
            break
    else:
        trunk, parts = len(rest), []
    shown = [tuple(name for name in part if name in reached) for part in parts]
    return FrameOrder(tuple(n for n in rest[:trunk] if n in reached), tuple(shown), inputs)


def _above(spec: NetSpec, top: str) -> list[str]:
    """The blobs that the top is computed from, itself first, without copies."""
    wanted, found = {top}, []
    for layer in reversed(spec.layers):
        used = [name for name in layer.tops if name in wanted]
        if used:
            wanted.update(layer.bottoms)
        if layer.type != "Split":
            found += [name for name in used if name not in found]
    return found


def _readers(spec: NetSpec) -> list[tuple[str, str]]:
    """Pairs (top, bottom) of blobs; a copy has the name of its original."""
    real = {top: layer.bottoms[0] for layer in spec.layers if layer.type == "Split"
            for top in layer.tops}  # fmt: skip
    return [
        (top, real.get(bottom, bottom))
        for layer in spec.layers
        if layer.type != "Split"
        for top in layer.tops
        for bottom in layer.bottoms
    ]


def _parts(blobs: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The connected parts of some blobs, in their order; the part that ends last comes first."""
    part = {name: name for name in blobs}

    def root(name: str) -> str:
        while part[name] != name:
            name = part[name]
        return name

    for top, bottom in pairs:
        if top in part and bottom in part:
            part[root(top)] = root(bottom)
    found: dict[str, list[str]] = {}
    for name in blobs:
        found.setdefault(root(name), []).append(name)
    return list(found.values())[::-1]


def _thinned(frames: list[tuple[str | None, ...]], longest: int) -> list[tuple[str | None, ...]]:
    if len(frames) <= longest:
        return frames
    return [frames[at * (len(frames) - 1) // max(1, longest - 1)] for at in range(longest)]


SHIFTS: tuple[Shift, ...] = get_args(Shift)
"""All values of ``Shift``."""
_NONE = np.empty((0, 3), np.int32)


class Traces(dict[int, dict[str, Points]]):
    """Label -> blob -> its points, from the top down.

    Attributes:
        top: the blob in which tracing started.
        label_map: (H, W) int64, the label of each place of the top.
        shapes: blob -> its shape, for every blob in which some label has points.
    """

    def __init__(self, top: str, label_map: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.top, self.label_map = top, label_map
        self.shapes: dict[str, tuple[int, ...]] = {}

    def arrived(self, label: int, blob: str) -> Points:
        """(P, 3) the label's points in a blob, P >= 0."""
        return self[label].get(blob, _NONE)


def trace(
    net: Net,
    inputs: Array | Mapping[str, Array],
    top: str,
    labels: Iterable[int] | None = None,
    shift: Shift = "full_shift",
    k: int = 1,
    label_map: npt.NDArray[Any] | None = None,
) -> Traces:
    """Traces the labels of one image down to the net's inputs.

    Args:
        net: the net; tracing runs on its device.
        inputs: as for ``net(inputs)``, one image.
        top: the score blob, (1, labels, H, W), whose largest channel is a place's label.
        labels: labels to trace; None for all of the label map.
        shift: the place within a convolution's window, in the channel that adds most.
            'full_shift': to the largest product; 'no_shift': to the centre; 'partial_shift': to
            the centre where the convolution is dilated, else to the largest product.
        k: number of channels of a window that are followed.
        label_map: (H, W) labels in place of the scores' own, such as those after a CRF.
    Returns:
        Per label, per traced blob (without tops of Split layers, which are copies), the unique
        points (channel, y, x), sorted, as (P, 3) int32. Blobs without points are left out, but
        the top of a label that does not occur has 0 points.
    Raises:
        UsageError: no such blob, shift or label, a label map of another size, more than one image.
        UnsupportedLayerError: a layer to be traced whose type has no tracing rule.
        LayerError: a layer that cannot run on its bottoms.
    Examples:
        >>> import numpy as np
        >>> import caffe_port as cp
        >>> net = cp.load(
        ...     "examples/shapes_voc/caffe_run/recording/net.prototxt",
        ...     "examples/shapes_voc/caffe_run/model/train_iter_2400.caffemodel",
        ... )
        >>> image = np.zeros((1, 3, 161, 161), np.float32)
        >>> traces = cp.unravel.trace(net, image, "fc8_interp")
        >>> traces.arrived(0, "data").shape[1]  # points (channel, y, x)
        3
    """
    _check_options(shift, k)
    fed = inputs if isinstance(inputs, Mapping) else {_only_source(net): inputs}
    with torch.no_grad():
        blobs = net(fed, keep=traced_blobs(net, fed, top))
        return trace_blobs(net, blobs, top, fed, labels, shift, k, label_map)


def traced_blobs(net: Net, fed: Collection[str], top: str) -> list[str]:
    """The blobs that ``trace_blobs`` needs.

    Args:
        net, top: see ``trace``.
        fed: the blobs that are given to the net.
    Raises:
        UnsupportedLayerError: a layer to be traced whose type has no tracing rule.
    """
    used = (blob for layer in _path(net, fed, top) for blob in (*layer.bottoms, *layer.tops))
    return list(dict.fromkeys([top, *used]))


def trace_blobs(
    net: Net,
    blobs: Mapping[str, Tensor],
    top: str,
    fed: Collection[str],
    labels: Iterable[int] | None = None,
    shift: Shift = "full_shift",
    k: int = 1,
    label_map: npt.NDArray[Any] | None = None,
) -> Traces:
    """``trace`` through the blobs of a forward pass that was run before.

    Args:
        net, top, labels, shift, k, label_map: see ``trace``.
        blobs: at least those of ``traced_blobs``.
        fed: the blobs that were given to the net.
    Returns, Raises: see ``trace``.
    """
    _check_options(shift, k)
    path = _path(net, fed, top)
    with torch.no_grad():
        traces = Traces(top, _label_map(blobs[top], top, label_map))
        traces.update({label: {} for label in _labels(traces.label_map, labels, blobs[top])})
        _descend(net, blobs, path, traces, (shift, k))
    return traces


def _check_options(shift: str, k: int) -> None:
    if shift not in SHIFTS:
        raise UsageError(f"shift is {shift!r}; expected one of {', '.join(SHIFTS)}")
    if k < 1:
        raise UsageError(f"k is {k}; expected 1 or more")


def _only_source(net: Net) -> str:
    names = net.spec.inputs or net.spec.sources[:1]
    if len(names) != 1:
        raise UsageError(f"the net has the inputs {', '.join(names)}; give a dict")
    return names[0]


def _path(net: Net, fed: Iterable[str], top: str) -> list[LayerSpec]:
    """The layers that points can pass, that of the top first; each has a rule."""
    reached, path = {top}, []
    steps = make_plan(net.spec, frozenset(fed), frozenset([top]), False).steps
    for layer in (step.layer for step in reversed(steps)):
        if layer.op.kind == "source" or reached.isdisjoint(layer.tops):
            continue
        fixed = layer.op.fixed_bottoms
        reached.update(blob for i, blob in enumerate(layer.bottoms) if i not in fixed)
        path.append(layer)
    expect_rules(path)
    return path


def _label_map(scores: Tensor, top: str, given: npt.NDArray[Any] | None) -> npt.NDArray[np.int64]:
    if scores.dim() != 4 or scores.shape[0] != 1:
        shape = tuple(scores.shape)
        raise UsageError(f"'{top}' has shape {shape}; expected (1, labels, H, W): one image's map")
    if given is None:
        own: npt.NDArray[np.int64] = scores[0].argmax(0).cpu().numpy()
        return own
    given = np.asarray(given)
    if given.shape != tuple(scores.shape[2:]) or given.dtype.kind not in "iu":
        raise UsageError(
            f"label_map is {given.dtype} of shape {given.shape}; expected integers of "
            f"'{top}''s size {tuple(scores.shape[2:])}"
        )
    return given.astype(np.int64)


def _labels(
    label_map: npt.NDArray[np.int64], given: Iterable[int] | None, scores: Tensor
) -> list[int]:
    channels = scores.shape[1]
    if given is None:
        # a given map may have places without a label, such as VOC's 255
        return [int(label) for label in np.unique(label_map) if 0 <= label < channels]
    labels = list(dict.fromkeys(int(label) for label in given))
    for label in labels:
        if not 0 <= label < channels:
            raise UsageError(f"label {label}; the scores have the labels 0 to {channels - 1}")
    return labels


def _start(traces: Traces, device: torch.device) -> PointSet:
    """All places of the labels to trace, in the channels of their labels."""
    labels = torch.tensor(list(traces), device=device)
    map_ = torch.from_numpy(traces.label_map).to(device).flatten()
    members = map_[:, None] == labels
    place = members.any(1).nonzero()[:, 0]
    flat, order = (map_[place] * len(map_) + place).sort()
    return PointSet(flat, members[place[order]])


def _descend(
    net: Net, blobs: Mapping[str, Tensor], path: list[LayerSpec], traces: Traces,
    how: tuple[Shift, int],
) -> None:  # fmt: skip
    """Traces the points from the top through the layers of the path, and adds them to the traces.

    Layers are in reverse order, so every reader of a blob is traced before the layer that writes
    it, and its points are complete.
    """
    start = _start(traces, blobs[traces.top].device)
    pending = {traces.top: [(start.flat, start.members)]}
    for layer in path:
        bottoms = tuple(blobs[name] for name in layer.bottoms)
        tops = tuple(blobs[name] for name in layer.tops)
        for i, name in enumerate(layer.tops):
            if name not in pending:
                continue
            points = PointSet.merge(pending.pop(name))
            _add(traces, name, points, blobs[name], layer.type == "Split")
            if not len(points.flat):
                continue
            passage = Passage(net.module(layer.name), bottoms, tops, i, *how)
            for link in find_rule(layer)(passage, points.flat):
                arrived = (link.target, points.members[link.source])
                pending.setdefault(layer.bottoms[link.bottom], []).append(arrived)
    for name, parts in pending.items():
        _add(traces, name, PointSet.merge(parts), blobs[name], False)


def _add(traces: Traces, name: str, points: PointSet, blob: Tensor, is_copy: bool) -> None:
    if is_copy or name in traces.shapes:
        return  # of a blob written in place, the points after its last writer count
    shape = tuple(blob.shape)
    for label, rows in zip(traces, points.rows(shape), strict=True):
        if len(rows) or name == traces.top:
            traces[label][name] = rows
            traces.shapes[name] = shape
