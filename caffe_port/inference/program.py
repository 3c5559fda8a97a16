"""The steps of an optimized net, and label maps without all scores at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.errors import UsageError
from caffe_port.inference import filters, neurons  # noqa: F401 - they register their rules
from caffe_port.inference.planner import Options, Planner, Step, Store, has_hooks, make_graph
from caffe_port.net import Net, run_guarded
from caffe_port.plan import Plan, freed_after, run_steps
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Op
from caffe_port.spec.ops.neurons import Dropout
from caffe_port.spec.ops.resampling import Interp

_LABELS = 4  # enlarged at a time


def scores_before(spec: NetSpec, blob: str) -> LayerSpec | None:
    """The Interp layer that enlarges small scores to this blob, None if there is none.

    Raises:
        UsageError: the net has no such blob.
    """
    if blob not in spec.shapes:
        raise UsageError(f"'{blob}' is not a blob of the net")
    maker = [layer for layer in spec.layers if blob in layer.tops][-1]
    if not isinstance(maker.op, Interp) or blob in maker.bottoms:
        return None
    cropped = maker.op.pad_beg or maker.op.pad_end
    shape, top = maker.bottom_shapes[0], maker.top_shapes[0]
    return None if cropped or top[2] * top[3] <= shape[2] * shape[3] else maker


def label_map(scores: Tensor, op: Op | None, blob: str, size: tuple[int, int] | None) -> Tensor:
    """The best label of each pixel.

    Args:
        scores: (N, C, H, W).
        op: the Interp that enlarges them, or None.
        blob: their name, for messages.
        size: (h, w) of the corner to return, or None for all.
    Returns:
        (N, h, w) uint8, or int64 above 256 labels.
    """
    if scores.dim() != 4:
        raise UsageError(f"'{blob}' has shape {tuple(scores.shape)}; expected (N, C, H, W)")
    full = scores.shape if op is None else op.top_shapes([tuple(scores.shape)])[0]
    height, width = size or (full[2], full[3])
    if not (0 < height <= full[2] and 0 < width <= full[3]):
        whole = f"{full[2]} x {full[3]}"
        raise UsageError(f"size is {height} x {width}; '{blob}' is {whole}")
    if op is None:
        return _narrow(scores[:, :, :height, :width].argmax(1), scores.shape[1])
    scores, enlarged = _needed(scores, (full[2], full[3]), (height, width))
    return _best(scores, enlarged)[:, :height, :width]


def _needed(
    scores: Tensor, full: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """The corner of the scores that a corner of the result needs, and its enlarged size.

    With aligned corners and an equal spacing of the pixels the numbers are the same.
    """
    kept, enlarged = [], []
    for axis in (0, 1):
        whole, top = scores.shape[2 + axis], full[axis]
        zoom, rest = divmod(top - 1, max(whole - 1, 1))
        if whole == 1 or rest or zoom == 0:
            kept.append(whole)
            enlarged.append(top)
            continue
        last = max(1, -(-(size[axis] - 1) // zoom))
        kept.append(last + 1)
        enlarged.append(last * zoom + 1)
    return scores[:, :, : kept[0], : kept[1]], (enlarged[0], enlarged[1])


def _best(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The argmax over the labels of the enlarged scores, a few labels at a time."""
    best: Tensor | None = None
    for first in range(0, scores.shape[1], _LABELS):
        some = scores[:, first : first + _LABELS].contiguous()
        some = functional.interpolate(some, size, mode="bilinear", align_corners=True)
        values, indices = some.max(1)
        found = _narrow(indices + first, scores.shape[1])
        if best is None:
            best, labels = values, found
        else:
            higher = values > best
            labels = torch.where(higher, found, labels)
            best = torch.maximum(best, values)
    return labels


def _narrow(labels: Tensor, count: int) -> Tensor:
    return labels.to(torch.uint8) if count <= 256 else labels


class Program:
    """Runs a plan's steps.

    Args:
        net: the net.
        plan: of the forward pass.
        fed: blobs that the caller gives.
        options: of the plan.
        store: of packed parameters, shared by the programs of a net.
    """

    def __init__(
        self, net: Net, plan: Plan, fed: Sequence[str], options: Options, store: Store
    ) -> None:
        def is_identity(layer: LayerSpec) -> bool:
            idle = isinstance(layer.op, Dropout) and layer.op.keeps_values(layer.phase)
            return (idle or layer.type == "Split") and not has_hooks(net, layer.name)

        self._graph = make_graph(plan, fed, is_identity)
        steps = Planner(net, self._graph, options, store).steps()
        frees = freed_after(steps, self._graph.kept.values())
        self._steps = [replace(step, free=free) for step, free in zip(steps, frees, strict=True)]
        self._reduced = options.reduced
        self._backend = options.compile
        self._compiled: dict[Hashable, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {}

    def run(self, fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the kept blobs from the given ones, contiguous and in full precision."""
        if self._backend is None:
            return self._compute(fed, _run)
        key = tuple((name, x.shape, x.dtype, x.device) for name, x in sorted(fed.items()))
        if key in self._compiled:
            return self._compiled[key](fed)
        # the first run is not compiled: each step chooses its method, and errors name the layer
        blobs = self._compute(fed, _run)

        def compute(fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return self._compute(fed, _run_unguarded)

        self._compiled[key] = torch.compile(compute, backend=self._backend, dynamic=False)
        return blobs

    def _compute(
        self, fed: Mapping[str, Tensor], run: Callable[[Step, list[Tensor]], tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        used = {value for step in self._steps for value in step.bottoms}
        used.update(self._graph.kept.values())
        values = {v: fed[name] for name, v in self._graph.fed.items() if v in used}
        run_steps(self._steps, values, run)
        return {name: self._finished(values[v]) for name, v in self._graph.kept.items()}

    def _finished(self, x: Tensor) -> Tensor:
        return (x.float() if x.dtype == self._reduced else x).contiguous()


def _run(step: Step, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
    return run_guarded(step.run, step.layer, bottoms)


def _run_unguarded(step: Step, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
    return step.run(*bottoms)
