"""Field numbers of binary messages: each dialect's become the merged schema's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from caffe_port.errors import FormatError, option
from caffe_port.proto import caffe_pb2, wire
from caffe_port.proto.dialects import (
    FORK_NUMBERS,
    LAST_BVLC_V1_TYPE,
    V1_ONLY,
    WITHOUT_EFFECT,
    UnknownField,
    UnknownWord,
)
from caffe_port.proto.text import is_repeated

# Where the fork's numbers hold. DeepLab v1 has no V2 layers: see ``dialect_of_layer``.
_OVERLAID = {
    "bvlc": (),
    "deeplab1": ("ConvolutionParameter", "LayerParameter", "LayerType", "V1LayerParameter"),
    "deeplab2": ("LayerParameter",),
    "longjon": (),
    "hed": (),
    "rcf": (),
}
_COPIES_OF_V2 = {153: 143}  # merges of DeepLab v2 into a later Caffe moved interp_param
# Layer type -> its options' number in SSD or Fast R-CNN, and in the schema. Other forks use these
# numbers for other options, so that only the type says what they mean.
_OF_TYPE = {
    "AnnotatedData": (200, 20101),
    "MultiBoxLoss": (201, 20102),
    "Permute": (202, 20004),
    "PriorBox": (203, 20103),
    "DetectionOutput": (204, 20104),
    "DetectionEvaluate": (205, 20105),
    "Normalize": (206, 20003),
    "SmoothL1Loss": (8266712, 20106),
    "ROIPooling": (8266711, 20107),
}
_WIRE_NUMBERS = {number: wire_number for wire_number, number in _OF_TYPE.values()}
_BVLC_OWNERS = {"Clip", "Crop", "Input", "LSTM", "LSTMUnit", "Parameter", "RNN", "Swish"}


def dialect_of_layer(type: str, dialect: str) -> str:
    """The dialect whose numbers a V2 layer has, and all that is in it.

    A type of BVLC's alone has BVLC's numbers. DeepLab v1 had no V2 layers: its upgraded nets are
    written with v2's, in which number 18 of a convolution is `dilation`; in v1 it was `hole_h`.
    """
    if type in _BVLC_OWNERS:
        return "bvlc"
    return "deeplab2" if dialect == "deeplab1" else dialect


@functools.cache
def fields_by_wire_number(descriptor: Descriptor, dialect: str) -> Mapping[int, FieldDescriptor]:
    """The fields of a message by the numbers that the dialect's files give them."""
    # upb's own descriptors have the same interface
    fields = cast("list[FieldDescriptor]", descriptor.fields)
    table = {field.number: field for field in fields}
    if descriptor.name in _OVERLAID[dialect]:
        for field in fields:
            if FORK_NUMBERS <= field.number < V1_ONLY:
                table[field.number - FORK_NUMBERS] = field
        if descriptor.name == "LayerParameter":
            for copy, number in _COPIES_OF_V2.items():
                table[copy] = table[number]
    return table


def has_own_numbers(types: Iterable[str]) -> bool:
    """Whether options of one of these layer types have other numbers than in the schema."""
    return any(type in _OF_TYPE for type in types)


def fields_of_layer(
    descriptor: Descriptor, dialect: str, type: str
) -> Mapping[int, FieldDescriptor]:
    """``fields_by_wire_number`` of a layer, with the number of its type's own options."""
    table = fields_by_wire_number(descriptor, dialect)
    if descriptor.name != "LayerParameter" or type not in _OF_TYPE:
        return table
    number, ours = _OF_TYPE[type]
    return {**table, number: table[ours]}


def v1_type(number: int, dialect: str) -> int:
    """The schema's V1 enum value for a file's.

    Raises:
        FormatError: the dialect has no such type.
    """
    known = caffe_pb2.V1LayerParameter.LayerType.DESCRIPTOR.values_by_number
    forks = "LayerType" in _OVERLAID[dialect]
    if forks and number + FORK_NUMBERS in known:
        return number + FORK_NUMBERS
    if number not in known or not (forks or number <= LAST_BVLC_V1_TYPE):
        elsewhere = not forks and (number in known or number + FORK_NUMBERS in known)
        advice = f"try {option('dialect', 'deeplab1')}" if elsewhere else "nor has any dialect"
        raise FormatError(f"V1 type {number}, which {dialect} does not have; {advice}")
    return number


def fork_number(number: int, where: str, dialect: str) -> int:
    """The number that a dialect's Caffe reads for one of our schema.

    Args:
        number: of a field, or a V1 layer type.
        where: the message's name, or 'LayerType'.
        dialect: one of ``dialects.DIALECTS``.
    """
    if where == "LayerParameter" and number in _WIRE_NUMBERS:
        return _WIRE_NUMBERS[number]
    forks = where in _OVERLAID[dialect] and FORK_NUMBERS <= number < V1_ONLY
    return number - FORK_NUMBERS if forks else number


def wire_number(number: int) -> int:
    """The number that an option of a V2 layer is written with: the schema's, or the fork's own."""
    own = _WIRE_NUMBERS.get(number, number)
    return own - FORK_NUMBERS if FORK_NUMBERS <= own < V1_ONLY else own


# Far above any net's options; low enough that a file of empty fields cannot exhaust the memory.
MAX_OPTION_BYTES = 8 * 2**20
MAX_OPTIONS = 100_000
MAX_UNKNOWN = 100

Pieces: TypeAlias = "list[bytes | memoryview]"
_LAYERS = ("LayerParameter", "V1LayerParameter")
_WIRE_TYPES = {
    FieldDescriptor.TYPE_MESSAGE: wire.BYTES,
    FieldDescriptor.TYPE_STRING: wire.BYTES,
    FieldDescriptor.TYPE_BYTES: wire.BYTES,
    FieldDescriptor.TYPE_FLOAT: wire.FIXED32,
    FieldDescriptor.TYPE_DOUBLE: wire.FIXED64,
}


@dataclass
class LayerMark:
    """The facts about a layer that determine its dialect."""

    name: str = ""
    type: str = ""
    v1_type: int = 0
    image_data: bool = False
    deeplab1: bool = False


@dataclass
class Renumbering:
    """Copies a message of a net under our schema's numbers.

    Attributes:
        view: the encoded message.
        layers: the marks of each layer, by the offset at which it starts.
        dialect: whose numbers the message has.
        whole: whether blobs and fields that the dialect does not have are copied as they are;
            False leaves them out and records the latter in ``unknown``.
        unknown: fields that were left out, each once a layer.
    """

    view: memoryview
    layers: Mapping[int, LayerMark]
    dialect: str
    whole: bool = False
    unknown: dict[tuple[str, str, int], UnknownField] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._size, self._budget = 0, wire.Budget(MAX_OPTIONS)

    def message(
        self, start: int, end: int, descriptor: Descriptor, layer: str = "", dialect: str = ""
    ) -> Pieces:
        """The fields from ``start`` to ``end``, which are those of a message of that kind.

        Args:
            start, end: in ``view``.
            descriptor: the kind.
            layer: the name of the layer that has the message.
            dialect: whose numbers that layer has; '' for the net's.
        Raises:
            FormatError: broken encoding, or a field that does not fit the dialect; with offset.
        """
        dialect, type = dialect or self.dialect, ""
        if descriptor.name in _LAYERS:
            layer, type = self.layers[start].name, self.layers[start].type
        if descriptor.name == "LayerParameter":
            dialect = dialect_of_layer(type, dialect)
        table = fields_of_layer(descriptor, dialect, type)
        pieces: Pieces = []
        for item in wire.fields(self.view, start, end, self._budget):
            target = table.get(item.number)
            if target is None or (
                target.message_type is not None and target.message_type.name == "BlobProto"
            ):
                if self.whole:
                    pieces.append(self.view[item.offset : item.next])
                elif target is None:
                    self._note(item, descriptor.name, layer)
            else:
                pieces += self._field(item, target, layer, dialect)
        return pieces

    def _field(self, item: wire.Field, target: FieldDescriptor, layer: str, dialect: str) -> Pieces:
        self._size += 2 + (0 if target.message_type is not None else item.end - item.start)
        if self._size > MAX_OPTION_BYTES:
            message = f"over {MAX_OPTION_BYTES} bytes of options besides the blobs"
            raise FormatError(message, offset=item.offset)
        _expect(item, target, layer)
        if target.message_type is not None:
            inner = self.message(item.start, item.end, target.message_type, layer, dialect)
            return [wire.encode_header(target.number, sum(map(len, inner))), *inner]
        if target.type == FieldDescriptor.TYPE_STRING and not self.whole:
            return [wire.encode_bytes(target.number, text(self.view, item).encode())]
        if target.enum_type is not None and target.enum_type.name == "LayerType":
            return [self._type(item, target, layer)]
        if target.enum_type is not None and item.wire_type == wire.VARINT and not self.whole:
            self._check_word(item, target, layer)
        part = self.view[item.start : item.end]
        payload = part if self.whole else bytes(part)  # a view would keep a mapped file open
        if item.wire_type == wire.BYTES:
            return [wire.encode_header(target.number, len(payload)), payload]
        return [wire.encode_varint(target.number << 3 | item.wire_type), payload]

    def _type(self, item: wire.Field, target: FieldDescriptor, layer: str) -> bytes | memoryview:
        try:
            return wire.encode_int(target.number, v1_type(item.value, self.dialect))
        except FormatError as error:
            if self.whole:  # protobuf keeps an unknown value
                return self.view[item.offset : item.next]
            raise FormatError(f"layer '{layer}': {error.message}", offset=item.offset) from error

    def _check_word(self, item: wire.Field, target: FieldDescriptor, layer: str) -> None:
        """Records the number of another fork's word; protobuf would drop it."""
        assert target.enum_type is not None
        if wire.signed(item.value) in target.enum_type.values_by_number:
            return
        kind = UnknownWord if target.name in WITHOUT_EFFECT else UnknownField
        name = target.name if kind is UnknownWord else f"{target.name}: {item.value}"
        key = (layer, name, item.number)
        if len(self.unknown) < MAX_UNKNOWN:
            self.unknown[key] = kind(layer, name, item.value, 0)

    def _note(self, item: wire.Field, where: str, layer: str) -> None:
        """Records a field that the dialect does not have, once per layer."""
        key = (layer, where, item.number)
        if len(self.unknown) < MAX_UNKNOWN and key not in self.unknown:
            name = f"{where} number {item.number}"
            self.unknown[key] = UnknownField(layer, name, item.value, 0)


def text(view: memoryview, item: wire.Field) -> str:
    """A string of the file."""
    wire.expect(item, wire.BYTES, "a string")
    # Caffe takes names in any encoding; escaping keeps them printable and distinct.
    return bytes(view[item.start : item.end]).decode(errors="backslashreplace")


def to_dialect(view: memoryview, descriptor: Descriptor, dialect: str) -> Pieces:
    """A message of our schema under the numbers that the dialect's Caffe reads.

    Args:
        view: the encoded message.
        descriptor: its kind.
        dialect: one of ``dialects.DIALECTS``.
    """
    known = fields_by_wire_number(descriptor, "bvlc")  # our own numbers
    if descriptor.name == "LayerParameter":
        dialect = dialect_of_layer("", dialect)
    pieces: Pieces = []
    for item in wire.fields(view):
        target = known.get(item.number)
        kind = None if target is None else target.message_type
        number = fork_number(item.number, descriptor.name, dialect)
        if kind is not None and kind.name != "BlobProto":
            inner = to_dialect(view[item.start : item.end], kind, dialect)
            pieces += [wire.encode_header(number, sum(map(len, inner))), *inner]
        elif (
            target is not None
            and target.enum_type is not None
            and (target.enum_type.name == "LayerType")
        ):
            pieces.append(wire.encode_int(number, fork_number(item.value, "LayerType", dialect)))
        elif number != item.number and item.wire_type == wire.BYTES:
            payload = view[item.start : item.end]
            pieces += [wire.encode_header(number, len(payload)), payload]
        elif number != item.number:
            tag = wire.encode_varint(number << 3 | item.wire_type)
            pieces += [tag, view[item.start : item.end]]
        else:
            pieces.append(view[item.offset : item.next])
    return pieces


def _expect(item: wire.Field, target: FieldDescriptor, layer: str) -> None:
    """Refuses an encoding that the field cannot have, which another dialect's field may."""
    wanted = _WIRE_TYPES.get(target.type, wire.VARINT)
    packed = item.wire_type == wire.BYTES and is_repeated(target)
    if item.wire_type != wanted and not (packed and wanted != wire.BYTES):
        raise FormatError(
            f"layer '{layer}': field {item.number} is {wire.WIRE_TYPE_NAMES[item.wire_type]}, but "
            f"'{target.name}' is {wire.WIRE_TYPE_NAMES[wanted]}; is it of another "
            f"dialect ({option('dialect', 'NAME')})?",
            offset=item.offset,
        )
