"""What several layers read: blobs, by inserted Split layers, and parameters, by name."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caffe_port.errors import NetError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.netspec import LayerSpec, NetSpec, ParamSpec
from caffe_port.spec.ops import ParamShape, Shape

# The Split layers that Caffe inserts, and which layers get a diff.
#
# Source: BVLC/caffe insert_splits.cpp; net.cpp, Init and AppendBottom.

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
        bottoms = layer.bottom_needs_backward
        ends = (layer.needs_backward and skip) or not lossy
        if ends:
            bottoms = (False,) * len(bottoms)
        if lossy:
            under_loss.update(layer.bottoms)
        skipped.update(b for b, needed in zip(layer.bottoms, bottoms, strict=True) if not needed)
        result.append(
            replace(layer, bottom_needs_backward=bottoms, needs_backward=False) if ends else layer
        )
    return result[::-1]


def _forced(layer: LayerSpec) -> LayerSpec:
    fixed = layer.op.fixed_bottoms
    bottoms = tuple(
        needed or i not in fixed for i, needed in enumerate(layer.bottom_needs_backward)
    )
    # it also overrides propagate_down: false
    down = tuple(given or i not in fixed for i, given in enumerate(layer.propagate_down))
    return replace(layer, bottom_needs_backward=bottoms, needs_backward=True, propagate_down=down)


# Parameters that several layers share by name, and the memory that a net's parameters need.
#
# Source: BVLC/caffe net.cpp, AppendParam.

_FLOAT = 4  # bytes


def check_memory(spec: NetSpec) -> None:
    """Refuses a net whose parameters need more than the machine's memory.

    Raises:
        NetError: with the memory needed and present.
    """
    needed = _FLOAT * sum(
        math.prod(param.shape)
        for layer in spec.layers
        for param in layer.params
        if param.owner is None
    )
    present = _memory()
    if present is not None and needed > present:
        raise NetError(
            f"net '{spec.name}': its parameters take {needed / 1e9:.1f} GB, this machine has "
            f"{present / 1e9:.1f} GB"
        )


def _memory() -> int | None:
    """Bytes of the machine's memory; None if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


_MULTIPLIERS = ("lr_mult", "decay_mult")


@dataclass
class _Owner:
    layer: str
    place: int  # index of the layer in the net
    index: int
    shape: Shape
    given: dict[str, float]


class Sharing:
    """The named parameters of a net while its layers are connected one by one."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._uses: dict[tuple[int, int], _Owner] = {}  # by (place of a layer, index)

    def params(
        self,
        layer: caffe_pb2.LayerParameter,
        place: int,
        shapes: Sequence[ParamShape],
        frozen: Sequence[bool],
    ) -> tuple[ParamSpec, ...]:
        """The parameters of a layer with their factors and owners.

        Args:
            layer: the layer's message.
            place: the layer's index in the net.
            shapes: its parameter blobs.
            frozen: whether each is never learned: lr_mult is 0.
        Raises:
            ValueError: more `param` than parameters, or sharing that does not fit.
        """
        if len(layer.param) > len(shapes):
            raise ValueError(f"{len(layer.param)} param for {len(shapes)} parameter blobs")
        result = []
        for i, shape in enumerate(shapes):
            spec = layer.param[i] if i < len(layer.param) else caffe_pb2.ParamSpec()
            owner = self._share((layer.name, place, i), spec, shape.shape) if spec.name else None
            rate = 0.0 if frozen[i] else spec.lr_mult
            result.append(
                ParamSpec(shape.name, shape.shape, rate, spec.decay_mult, shape.filler, owner)
            )
        return tuple(result)

    def _share(
        self, user: tuple[str, int, int], spec: caffe_pb2.ParamSpec, shape: Shape
    ) -> tuple[str, int] | None:
        given = {m: getattr(spec, m) for m in _MULTIPLIERS if spec.HasField(m)}
        owner = self._owners.get(spec.name)
        if owner is None:
            self._owners[spec.name] = self._uses[user[1:]] = _Owner(*user, shape, given)
            return None
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        fits = math.prod(shape) == math.prod(owner.shape) if permissive else shape == owner.shape
        if not fits:
            raise ValueError(
                f"param '{spec.name}' has shape {shape} here and {owner.shape} in its owner, layer "
                f"'{owner.layer}'; expected the same{' count' if permissive else ''}"
                + _advice(shape, owner.shape)
            )
        for name, value in given.items():
            if owner.given.setdefault(name, value) != value:
                raise ValueError(
                    f"param '{spec.name}' is shared with layer '{owner.layer}' and has {name} "
                    f"{value} here, {owner.given[name]} there; expected the same"
                )
        self._uses[user[1:]] = owner
        return (owner.layer, owner.index)

    def settled(self, layers: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with the final factors of shared parameters, whichever layer gave them.

        Args:
            layers: all layers of the net, whose ``params`` this made, under their final names.
        """

        def settled(place: int, index: int, param: ParamSpec) -> ParamSpec:
            owner = self._uses.get((place, index))
            if owner is None:
                return param
            frozen = layers[place].op.frozen(index)
            return _settled(param, frozen, owner, layers)

        result = list(layers)
        for place in {place for place, _ in self._uses}:
            params = tuple(settled(place, i, p) for i, p in enumerate(layers[place].params))
            result[place] = replace(layers[place], params=params)
        return result


def _settled(
    param: ParamSpec, frozen: bool, owner: _Owner, layers: Sequence[LayerSpec]
) -> ParamSpec:
    rate = owner.given.get("lr_mult", param.lr_mult)
    return replace(
        param,
        owner=param.owner and (layers[owner.place].name, owner.index),
        lr_mult=param.lr_mult if frozen else rate,
        decay_mult=owner.given.get("decay_mult", param.decay_mult),
    )


def _advice(here: Shape, owner: Shape) -> str:
    """Advice about shapes that cannot be shared, for a message."""
    if math.prod(here) == math.prod(owner):
        return "; share_mode: PERMISSIVE in the param shares values of the same number"
    if here[:1] == owner[:1] and len(here) == len(owner):
        what = "the bottoms differ in channels or the layers in kernel_size or group"
    else:
        what = "the layers differ in num_output or type"
    return f"; {what}: give one of the params another name, or give the layers equal options"
