"""Parameters that several layers share by name, and the memory that a net's parameters need.

Source: BVLC/caffe net.cpp, AppendParam.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caffe_port.errors import NetError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.netspec import LayerSpec, NetSpec, ParamSpec
from caffe_port.spec.ops import ParamShape, Shape

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
        frozen: bool = False,
    ) -> tuple[ParamSpec, ...]:
        """The parameters of a layer with their factors and owners.

        Args:
            layer: the layer's message.
            place: the layer's index in the net.
            shapes: its parameter blobs.
            frozen: whether they are never learned: lr_mult is 0.
        Raises:
            ValueError: more `param` than parameters, or sharing that does not fit.
        """
        if len(layer.param) > len(shapes):
            raise ValueError(f"{len(layer.param)} param for {len(shapes)} parameter blobs")
        result = []
        for i, shape in enumerate(shapes):
            spec = layer.param[i] if i < len(layer.param) else caffe_pb2.ParamSpec()
            owner = self._share((layer.name, place, i), spec, shape.shape) if spec.name else None
            rate = 0.0 if frozen else spec.lr_mult
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
            return param if owner is None else _settled(layers[place], param, owner, layers)

        return [
            replace(layer, params=tuple(settled(place, i, p) for i, p in enumerate(layer.params)))
            for place, layer in enumerate(layers)
        ]


def _settled(
    layer: LayerSpec, param: ParamSpec, owner: _Owner, layers: Sequence[LayerSpec]
) -> ParamSpec:
    rate = owner.given.get("lr_mult", param.lr_mult)
    return replace(
        param,
        owner=param.owner and (layers[owner.place].name, owner.index),
        lr_mult=param.lr_mult if layer.op.frozen_params else rate,
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
