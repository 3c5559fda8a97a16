"""Which options a layer type has, read off its Op and the schemas, and random values for them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from caffe_port.proto import caffe_pb2
from caffe_port.proto.text import is_repeated
from caffe_port.spec.ops import Op
from tools.differential.drafts import DraftLayer
from tools.differential.other_side import SCALARS

Schema = Mapping[str, Mapping[str, Sequence[Any]]]  # as other_side.describe gives it
_WHOLE = (0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6)
_REAL = (0.0, 1.0, -1.0, 0.5, 2.0, 0.1)
_NESTED = ("BlobShape", "FillerParameter")
_TRIES = 40
_CUDNN = "CUDNN"  # a Caffe without a GPU refuses it; what it computes is the same


@dataclass(frozen=True)
class Option:
    """One field of a block of options.

    Attributes:
        block, name: as in `block { name: value }`.
        kind: 'int', 'uint', 'float', 'bool', 'enum', 'BlobShape' or 'FillerParameter'.
        repeated, required: as in the schema.
        choices: of an enum.
        ours: whether our schema has it; else only that Caffe's.
        read: whether our Op reads it.
        range: what the Op says of it, or None.
    """

    block: str
    name: str
    kind: str
    repeated: bool
    required: bool = False
    choices: tuple[str, ...] = ()
    ours: bool = True
    read: bool = True
    range: tuple[float, float] | None = None

    def draw(self, rng: random.Random, axes: int) -> list[Any]:
        """Values for it: one, or several where it is repeated.

        Args:
            rng: of the case.
            axes: how many the first bottom has.
        """
        count = rng.choice((1, 1, 1, 2, 2, 3)) if self.repeated else 1
        return [self._value(rng, axes) for _ in range(count)]

    def _value(self, rng: random.Random, axes: int) -> Any:
        if self.kind == "enum":
            return rng.choice(self.choices)
        draw = {"bool": self._flag, "float": self._real, "BlobShape": self._dims,
                "FillerParameter": self._filler}.get(self.kind)  # fmt: skip
        return self._whole(rng, axes) if draw is None else draw(rng)

    def _whole(self, rng: random.Random, axes: int) -> int:
        if self.range is not None:
            return rng.randint(int(self.range[0]), int(self.range[1]))
        if self.kind == "int" and "ax" in self.name:
            return rng.randint(-axes - 1, axes)
        sign = -1 if self.kind == "int" and rng.random() < 0.15 else 1
        return sign * rng.choice(_WHOLE)

    def _flag(self, rng: random.Random) -> bool:
        return rng.random() < 0.5

    def _dims(self, rng: random.Random) -> list[int]:
        return [rng.choice((0, -1, 1, 2, 3, 4, 6)) for _ in range(rng.randint(0, 4))]

    def _filler(self, rng: random.Random) -> dict[str, Any]:
        return {"type": "constant", "value": round(rng.uniform(-1, 1), 2)}

    def _real(self, rng: random.Random) -> float:
        low, high = self.range or (-3.0, 3.0)
        likely = [value for value in _REAL if low <= value <= high]
        if likely and rng.random() < 0.5:
            return rng.choice(likely)
        return float(f"{rng.uniform(low, high):.3g}")


def options_of(kind: type[Op], schema: Schema) -> list[Option]:
    """The options of a layer type that both sides have, or that Caffe alone has under its name.

    Args:
        kind: the type's Op.
        schema: of the Caffe that is compared with.
    """
    read = _read_fields(kind)
    blocks = _blocks(kind, read, schema)
    ours = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    found: list[Option] = []
    for block in blocks:
        if block not in ours:
            found += _theirs(kind, block, schema)
            continue
        message = ours[block].message_type
        assert message is not None
        theirs = schema[schema["LayerParameter"][block][0]]
        for name, descriptor in message.fields_by_name.items():
            if name in theirs and (option := _ours(kind, block, descriptor, theirs[name])):
                found.append(_with_read(option, (block, name) in read))
    return found


def unknown_options(kind: type[Op], schema: Schema) -> list[str]:
    """Options of a layer type that only that Caffe has, as 'block.field'."""
    ours = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    found = []
    for block in _blocks(kind, _read_fields(kind), schema):
        message = ours[block].message_type if block in ours else None
        known = () if message is None else message.fields_by_name
        theirs = schema[schema["LayerParameter"][block][0]]
        found += [f"{block}.{name}" for name in theirs if name not in known]
    return found


def _blocks(kind: type[Op], read: set[tuple[str, str]], schema: Schema) -> list[str]:
    """Blocks of options that a type reads here, or that bear its name there."""
    fields = schema["LayerParameter"]
    named = [block for block in fields if _named_after(block, kind.type)]
    return list(dict.fromkeys([*(block for block, _ in sorted(read) if block in fields), *named]))


def _with_read(option: Option, read: bool) -> Option:
    return Option(**{**option.__dict__, "read": read})


def _ours(
    kind: type[Op], block: str, descriptor: FieldDescriptor, theirs: Sequence[Any]
) -> Option | None:
    choices: tuple[str, ...] = ()
    if descriptor.message_type is not None:
        type = descriptor.message_type.name
    elif descriptor.enum_type is not None:
        type = "enum"
        known = set(theirs[2] or ())
        choices = tuple(v.name for v in descriptor.enum_type.values if v.name in known)
        choices = tuple(name for name in choices if name != _CUDNN)
    else:
        type = SCALARS.get(descriptor.cpp_type, "other")
    return _option(kind, block, descriptor.name, type, is_repeated(descriptor), choices,
                   _is_required(descriptor))  # fmt: skip


def _named_after(block: str, type: str) -> bool:
    """Whether a block is a type's own, as inner_product_param is InnerProduct's."""
    return block.endswith("_param") and block[: -len("_param")].replace("_", "") == type.lower()


def _is_required(descriptor: FieldDescriptor) -> bool:
    given = getattr(descriptor, "is_required", None)  # protobuf 6 and later; 7 has no label
    return bool(descriptor.label == descriptor.LABEL_REQUIRED if given is None else given)


def _theirs(kind: type[Op], block: str, schema: Schema) -> Iterator[Option]:
    for name, (type, repeated, choices) in schema[schema["LayerParameter"][block][0]].items():
        if type not in _NESTED and (
            option := _option(kind, block, name, type, repeated, tuple(choices or ()), ours=False)
        ):
            yield option


def _option(
    kind: type[Op],
    block: str,
    name: str,
    type: str,
    repeated: bool,
    choices: tuple[str, ...],
    required: bool = False,
    ours: bool = True,
) -> Option | None:
    """None for texts, which name files, and for messages that no value is drawn for."""
    if type not in ("int", "uint", "float", "bool", "enum", *_NESTED):
        return None
    range = kind.option_ranges.get(name)
    return Option(block, name, type, repeated, required, choices, ours, range=range)


def layer_of(
    type: str, settings: Mapping[Option, list[Any]], bottoms: Sequence[str], tops: Sequence[str]
) -> DraftLayer:
    """A layer with these options."""
    message = caffe_pb2.LayerParameter(type=type, bottom=bottoms, top=tops)
    extra: dict[str, dict[str, list[Any]]] = {}
    for option, values in settings.items():
        if option.ours:
            _set(getattr(message, option.block), option, values)
        else:
            extra.setdefault(option.block, {})[option.name] = values
    return DraftLayer(message, extra)


def _set(block: Any, option: Option, values: list[Any]) -> None:
    block.SetInParent()
    target = getattr(block, option.name)
    if option.kind == "BlobShape":
        for dims in values:
            (target.add() if option.repeated else target).dim.extend(dims)
    elif option.kind == "FillerParameter":
        for given in values:
            filler = target.add() if option.repeated else target
            filler.type, filler.value = given["type"], given["value"]
    else:
        if option.kind == "enum":
            kind = block.DESCRIPTOR.fields_by_name[option.name].enum_type
            values = [kind.values_by_name[name].number for name in values]
        if option.repeated:
            target.extend(values)
        else:
            setattr(block, option.name, values[0])


class _Probe:
    """A message that notes which of its fields are read."""

    def __init__(self, message: Any, seen: set[tuple[str, ...]], path: tuple[str, ...]) -> None:
        self._message, self._seen, self._path = message, seen, path

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._message, name)
        if name not in self._message.DESCRIPTOR.fields_by_name:
            return value
        self._seen.add((*self._path, name))
        if hasattr(value, "DESCRIPTOR"):
            return _Probe(value, self._seen, (*self._path, name))
        return value

    def HasField(self, name: str) -> bool:  # noqa: N802  (protobuf's name)
        self._seen.add((*self._path, name))
        return bool(self._message.HasField(name))


def _read_fields(kind: type[Op]) -> set[tuple[str, str]]:
    """(block, field) that the Op reads, found by having it read random layers."""
    rng = random.Random(kind.type)
    seen: set[tuple[str, ...]] = set()
    for _ in range(_TRIES):
        layer = caffe_pb2.LayerParameter(type=kind.type)
        layer.bottom.extend(f"b{i}" for i in range(rng.randint(*_few(kind.bottoms))))
        layer.top.extend(f"t{i}" for i in range(rng.randint(*_few(kind.tops))))
        for block in {path[0] for path in seen if len(path) > 1}:
            _fill(getattr(layer, block), rng)
        try:
            op = kind.read(_Probe(layer, seen, ()), {})  # type: ignore[arg-type]
            op.params([(2, 4, 6, 6)] * len(layer.bottom))
        except Exception:
            continue
    return {(path[0], path[1]) for path in seen if len(path) > 1}


def _few(counts: tuple[int, int | None]) -> tuple[int, int]:
    low, high = counts
    return low, low + 3 if high is None else min(high, low + 3)


def _fill(block: Any, rng: random.Random) -> None:
    for field in block.DESCRIPTOR.fields:
        if rng.random() < 0.5 and field.message_type is None and field.cpp_type in SCALARS:
            kind = SCALARS[field.cpp_type]
            value: Any = "x" if kind == "string" else rng.choice((0, 1, 2, 3))
            if is_repeated(field):
                getattr(block, field.name).extend([value] * rng.randint(0, 2))
            else:
                setattr(block, field.name, value)
