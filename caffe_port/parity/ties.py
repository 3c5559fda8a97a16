"""Choices between values that are equal within rounding.

A label is decided by which of two scores is larger, max pooling by which element of a window is.
Caffe's run and the port's may decide differently where the values are equal within rounding. Each
run is compared with what is exact for its own numbers, so neither is wrong; the places are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_port.parity.bench import Bench
from caffe_port.parity.topology import Layer, Topology, fact
from caffe_port.parity.values import Values, array, tensor

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
