"""A net that is being drawn or shrunk: layers as messages, and options outside of our schema."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_port.parity.values import is_choice
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.printer import print_text
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Shape
from caffe_port.spec.ops import Values as Meant

Values = NDArray[np.float32]
Extra = Mapping[str, Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class DraftLayer:
    """One layer.

    Attributes:
        message: what our schema knows; never changed, see ``changed``.
        extra: blocks that only Caffe's schema knows: name -> field -> values.
    """

    message: caffe_pb2.LayerParameter
    extra: Extra = field(default_factory=dict)

    @property
    def is_input(self) -> bool:
        """Whether it is an Input layer."""
        return self.message.type == "Input"

    def changed(self) -> tuple[DraftLayer, caffe_pb2.LayerParameter]:
        """A copy, and its message, which may be changed."""
        message = caffe_pb2.LayerParameter()
        message.CopyFrom(self.message)
        return replace(self, message=message), message

    def text(self) -> str:
        """The layer as prototxt."""
        lines = print_text(self.message).splitlines()
        for block, fields in self.extra.items():
            lines.append(f"{block} {{")
            lines += [f"  {k}: {_word(v)}" for k, values in fields.items() for v in values]
            lines.append("}")
        return "\n".join(["layer {", *(f"  {line}" for line in lines), "}\n"])


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Draft:
    """A whole net.

    Attributes:
        layers: in order.
        force_backward: of the net.
    """

    layers: tuple[DraftLayer, ...]
    force_backward: bool = False

    def text(self, name: str = "net") -> str:
        """The net as prototxt."""
        head = f'name: "{name}"\n' + ("force_backward: true\n" if self.force_backward else "")
        return head + "".join(layer.text() for layer in self.layers)

    def types(self) -> list[str]:
        """Its layer types without Input, each once, in order."""
        return list(dict.fromkeys(x.message.type for x in self.layers if not x.is_input))


def spec_of(text: str, phase: str, dialect: str | None = None) -> NetSpec:
    """The port's spec of a net.

    Raises:
        CaffePortError: the port refuses it.
    """
    net = parse_net(text, dialect=dialect)
    return NetSpec.build(
        net.message, phase=phase, dialect=net.dialect, unknown=net.unknown, text=net.text
    )


def input_values(spec: NetSpec, seed: int) -> dict[str, Values]:
    """Values for every input that its readers accept: labels, sizes, numbers."""
    return {
        blob: drawn_values(_generator(seed, blob), spec.shapes[blob], *_meant(spec, blob))
        for blob in spec.inputs
    }


def param_values(spec: NetSpec, seed: int) -> dict[tuple[str, int], Values]:
    """Values for every parameter that is not another's."""
    found = {}
    for layer in spec.layers:
        shapes = layer.op.params(layer.bottom_shapes)
        for index, (param, shape) in enumerate(zip(layer.params, shapes, strict=True)):
            if param.owner is None:
                generator = _generator(seed, f"{layer.name}/{index}")
                values = drawn_values(generator, param.shape, shape.values)
                free = shape.values == Meant()
                found[layer.name, index] = values * np.float32(0.5) if free else values
    return found


def output_diffs(spec: NetSpec, seed: int) -> dict[str, Values]:
    """Diffs for the outputs that the backward pass starts from, those of loss layers left out."""
    started = {
        top
        for layer in spec.layers
        for index, top in enumerate(layer.tops)
        if layer.needs_backward and not layer.op.auto_top and not is_choice(layer, index)
    }
    return {
        blob: drawn_values(_generator(seed, f"diff of {blob}"), spec.shapes[blob])
        for blob in spec.outputs
        if blob in started
    }


def weighted_tops(spec: NetSpec) -> list[str]:
    """Tops with a loss weight: Caffe starts from it as their diff."""
    return [
        top
        for layer in spec.layers
        for top, weight in zip(layer.tops, layer.loss_weights, strict=True)
        if weight
    ]


def is_free(spec: NetSpec, blob: str) -> bool:
    """Whether an input may hold any number: no reader expects labels, sizes or ranges."""
    return all(meant == Meant() for meant in _meant(spec, blob))


def _meant(spec: NetSpec, blob: str) -> Iterable[Meant]:
    """What the layers that read a blob, or its copies, expect of it."""
    for layer, index in _readers(spec, blob):
        if layer.is_inserted:
            for top in layer.tops:
                yield from _meant(spec, top)
        else:
            yield layer.op.bottom_values(index, layer.bottom_shapes)


def _readers(spec: NetSpec, blob: str) -> Iterable[tuple[LayerSpec, int]]:
    for layer in spec.layers:
        for index, bottom in enumerate(layer.bottoms):
            if bottom == blob:
                yield layer, index
        if blob in layer.tops and blob in layer.bottoms:
            return  # later readers see what this layer wrote in its place


def _generator(seed: int, name: str) -> np.random.RandomState:
    return np.random.RandomState((seed + zlib.crc32(name.encode())) % 2**32)


def drawn_values(generator: np.random.RandomState, shape: Shape, *meant: Meant) -> Values:
    """Random values in a range; without one, sometimes tied, zero, large or small."""
    low = max((m.low for m in meant if m.low is not None), default=None)
    high = min((m.high for m in meant if m.high is not None), default=None)
    if any(m.whole for m in meant):
        least, most = int(low or 0), int(high if high is not None else (low or 0) + 3)
        values = generator.randint(least, max(most, least) + 1, shape).astype(np.float32)
    elif low is not None or high is not None:
        first = low if low is not None else (high or 0) - 3
        last = high if high is not None else first + 3
        values = generator.uniform(first, max(last, first), shape).astype(np.float32)
    else:
        return _free_values(generator, shape)
    also = [value for m in meant for value in m.also]
    if also and generator.rand() < 0.7:
        places = generator.rand(*shape) < 0.2
        values = np.where(places, np.float32(also[generator.randint(len(also))]), values)
    return np.asarray(values, np.float32)


def _free_values(generator: np.random.RandomState, shape: Shape) -> Values:
    values = np.asarray(generator.standard_normal(shape))
    kind = generator.rand()
    if kind < 0.15:
        values = np.round(values)  # ties and zeros
    elif kind < 0.2:
        values = np.where(generator.rand(*shape) < 0.5, 0, values)
    elif kind < 0.25:
        values = values * 30
    elif kind < 0.3:
        values = values * 1e-2
    elif kind < 0.33:
        values = np.full(shape, values.reshape(-1)[0] if values.size else 0)
    elif kind < 0.36:
        values = -np.abs(values)
    return np.asarray(values, np.float32)
