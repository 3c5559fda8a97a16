"""The Split layers that Caffe inserts, and which layers get a diff.

Source: BVLC/caffe insert_splits.cpp; net.cpp, Init and AppendBottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from caffe_port.errors import NetError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.netspec import LayerSpec

_Top = tuple[int, int]  # layer index, top index


def insert_splits(
    layers: Sequence[caffe_pb2.LayerParameter],
    made_elsewhere: Callable[[str], str] = lambda blob: "",
) -> list[caffe_pb2.LayerParameter]:
    """Gives every layer its own copy of a blob that several layers read.

    Each copy has a diff of its own, and the Split adds them. A non-zero explicit loss_weight on a
    blob counts as a reader and moves to the first copy.

    Args:
        layers: of one phase.
        made_elsewhere: where a blob is made that none of them makes, for the error.
    Raises:
        NetError: a bottom that no earlier layer makes.
    """
    sources, readers, weights = _trace(layers, made_elsewhere)
    used: Counter[_Top] = Counter()
    result: list[caffe_pb2.LayerParameter] = []
    for i, original in enumerate(layers):
        layer = caffe_pb2.LayerParameter()
        layer.CopyFrom(original)
        result.append(layer)
        for j, blob in enumerate(layer.bottom):
            top = sources[i, j]
            if readers[top] > 1:
                layer.bottom[j] = f"{_split_name(layers, top, blob)}_{used[top]}"
                used[top] += 1
        for j in range(len(layer.top)):
            if readers[i, j] > 1:
                weight = weights.get((i, j), 0.0)
                result.append(_split(layers, (i, j), readers[i, j], weight))
                if weight:
                    layer.ClearField("loss_weight")
                    used[i, j] += 1
    return result


def _trace(
    layers: Sequence[caffe_pb2.LayerParameter], made_elsewhere: Callable[[str], str]
) -> tuple[dict[tuple[int, int], _Top], Counter[_Top], dict[_Top, float]]:
    """For each (layer, bottom) the top it reads; how often each top is read; loss weights."""
    last: dict[str, _Top] = {}
    sources: dict[tuple[int, int], _Top] = {}
    readers: Counter[_Top] = Counter()
    weights: dict[_Top, float] = {}
    for i, layer in enumerate(layers):
        for j, blob in enumerate(layer.bottom):
            if blob not in last:
                raise NetError(_missing(layers, i, j, made_elsewhere(blob)))
            sources[i, j] = last[blob]
            readers[last[blob]] += 1
        for j, blob in enumerate(layer.top):
            last[blob] = (i, j)
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            if weight:
                weights[i, j] = weight
                readers[i, j] += 1
    return sources, readers, weights


def _missing(layers: Sequence[caffe_pb2.LayerParameter], i: int, j: int, elsewhere: str) -> str:
    layer, blob = layers[i], layers[i].bottom[j]
    where = f"layer '{layer.name}' ({layer.type}): bottom {j} is '{blob}', "
    for later in layers[i:]:
        if blob in later.top and not elsewhere:
            order = "itself" if later is layer else f"the later layer '{later.name}'"
            return where + f"made by {order}: a cycle, or layers out of order"
    return where + "which no layer makes" + elsewhere


def _split_name(layers: Sequence[caffe_pb2.LayerParameter], top: _Top, blob: str) -> str:
    return f"{blob}_{layers[top[0]].name}_{top[1]}_split"


def _split(
    layers: Sequence[caffe_pb2.LayerParameter], top: _Top, count: int, weight: float
) -> caffe_pb2.LayerParameter:
    blob = layers[top[0]].top[top[1]]
    name = _split_name(layers, top, blob)
    split = caffe_pb2.LayerParameter(name=name, type="Split", bottom=[blob])
    split.top.extend(f"{name}_{k}" for k in range(count))
    if weight:
        split.loss_weight.extend([weight] + [0.0] * (count - 1))
    return split


def mark_backward(layers: Sequence[LayerSpec], force: bool) -> list[LayerSpec]:
    """Fills in ``bottom_needs_backward`` and ``needs_backward``.

    A blob needs a diff when a learned parameter comes before it and a loss after it.

    Args:
        layers: connected, in order; ``propagate_down`` as the prototxt says it.
        force: the net's force_backward.
    """
    marked = _towards_learning(layers)
    marked = _towards_loss(marked)
    return [_forced(layer) for layer in marked] if force else marked


def _towards_learning(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    needs: dict[str, bool] = {}
    result = []
    for layer in layers:
        explicit = bool(layer.message.propagate_down)
        bottoms = tuple(
            wanted if explicit else needs[blob]
            for blob, wanted in zip(layer.bottoms, layer.propagate_down, strict=True)
        )
        learns = any(param.lr_mult != 0 for param in layer.params)
        walks = learns or any(needs[blob] for blob in layer.bottoms)
        for top in layer.tops:
            needs[top] = needs.get(top, False) or walks
        result.append(replace(layer, bottom_needs_backward=bottoms, needs_backward=walks))
    return result


def _towards_loss(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    under_loss: set[str] = set()
    skipped: set[str] = set()
    result = []
    for layer in reversed(layers):
        lossy = any(layer.loss_weights) or not under_loss.isdisjoint(layer.tops)
        skip = all(top in skipped for top in layer.tops)
        bottoms, walks = layer.bottom_needs_backward, layer.needs_backward
        if (walks and skip) or not lossy:
            bottoms, walks = (False,) * len(bottoms), False
        if lossy:
            under_loss.update(layer.bottoms)
        skipped.update(b for b, needed in zip(layer.bottoms, bottoms, strict=True) if not needed)
        result.append(replace(layer, bottom_needs_backward=bottoms, needs_backward=walks))
    return result[::-1]


def _forced(layer: LayerSpec) -> LayerSpec:
    fixed = layer.op.fixed_bottoms
    bottoms = tuple(
        needed or i not in fixed for i, needed in enumerate(layer.bottom_needs_backward)
    )
    # it also overrides propagate_down: false
    down = tuple(given or i not in fixed for i, given in enumerate(layer.propagate_down))
    return replace(layer, bottom_needs_backward=bottoms, needs_backward=True, propagate_down=down)
