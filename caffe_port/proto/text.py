"""Protobuf text format: a tree of entries to a message of our schema.

Google's own parser drops unknown fields silently and does not record the layer that a field is in.
This one keeps unknown fields with their lines, so that a fork's fields are reported and can be read
by a layer that its user registers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_port.errors import FormatError
from caffe_port.files import HEAD, TEXT, AnyFile, OpenFile, name_of, reading, seems_to_be
from caffe_port.proto.caffe_pb2 import LayerParameter, V1LayerParameter
from caffe_port.proto.dialects import (
    WITHOUT_EFFECT,
    Plain,
    RepeatedField,
    UnknownField,
    UnknownWord,
)
from caffe_port.proto.tokens import Entry, Scalar, parse_tree, substitute

MAX_BYTES = 16 * 2**20  # the largest published prototxt is below 1 MB

AnyMessage = TypeVar("AnyMessage", bound=Message)

_CONFLICT = re.compile(rb"^<<<<<<< ", re.MULTILINE)
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_V1_TYPES = V1LayerParameter.LayerType.keys()
_GENERATIONS = {"layer": "layers", "layers": "layer"}
_LISTS_IN_FORKS = {"device_id"}
_TYPE_NAMES = {
    FieldDescriptor.TYPE_FLOAT: "a number",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_STRING: "a quoted string",
    FieldDescriptor.TYPE_BYTES: "a quoted string",
}


def read_file(file: AnyFile) -> str:
    """Reads prototxt as text; bytes that are not UTF-8 are accepted in comments only.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        ReadError: the file cannot be read.
        FormatError: it is too large, or binary.
    Examples:
        >>> from caffe_port.proto import read_file
        >>> read_file("examples/shapes_voc/caffe_run/solver.prototxt").splitlines()[0]
        'train_net: "train.prototxt"'
    """
    path = name_of(file)
    with reading(path):
        opened = file if isinstance(file, OpenFile) else OpenFile(file)
        with opened.stream() as stream:
            raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise FormatError(f"more than {MAX_BYTES} bytes, too large for a prototxt", path=path)
    what = seems_to_be(raw[:HEAD])
    if what and what != TEXT:
        raise FormatError(f"expected prototxt (text); the file seems to be {what}", path=path)
    conflict = _CONFLICT.search(raw)
    if conflict is not None:
        line = raw.count(b"\n", 0, conflict.start()) + 1
        raise FormatError("a merge conflict that git left is not resolved", path=path, line=line)
    control = re.search(rb"[\0-\x08\x0e-\x1f]", raw)
    if control is not None:
        message = f"byte {control[0][0]}: this is a binary file, expected prototxt (text)"
        raise FormatError(message, path=path, offset=control.start())
    return raw.decode("utf-8-sig", errors="surrogateescape")


def parse_text(
    text: str,
    message: AnyMessage,
    *,
    path: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[AnyMessage, tuple[UnknownField, ...]]:
    """Parses prototxt into ``message``.

    Args:
        text: the prototxt.
        message: an empty message of ``caffe_pb2``; filled and returned.
        path: named in errors.
        variables: values for ``${NAME}``.
    Returns:
        The message and the fields that the schema does not have.
    Raises:
        FormatError: syntax, a wrong value, or a variable without a value, with line and column.
    """
    tree = parse_tree(substitute(text, variables or {}), path)
    filler = _Filler(path)
    filler.fill(message, tree, "", "")
    return message, tuple(filler.unknown)


class _Filler:
    def __init__(self, path: str | None) -> None:
        self.path = path
        self.unknown: list[UnknownField] = []
        self.layers: Counter[str] = Counter()  # how many of each name were begun

    def fail(self, message: str, at: Entry | Scalar) -> NoReturn:
        raise FormatError(message, path=self.path, line=at.line, column=at.column)

    def fill(self, message: Message, entries: tuple[Entry, ...], layer: str, prefix: str) -> None:
        # upb's own descriptors have the same interface
        fields = cast("Mapping[str, FieldDescriptor]", message.DESCRIPTOR.fields_by_name)
        for entry in entries:
            field = fields.get(entry.name)
            if self.fork(message, field, entry, layer, prefix):
                continue
            if field is None:
                name = prefix + entry.name
                value, nth = self.plain(entry.value), max(self.layers[layer] - 1, 0)
                kind = message.DESCRIPTOR.name
                self.unknown.append(
                    UnknownField(layer, name, value, entry.line, nth, entry.column, kind)
                )
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                self.block(message, field, entry, layer, prefix)
            elif not self.without_effect(field, entry, layer, prefix):
                self.scalar(message, field, entry)

    def fork(
        self,
        message: Message,
        field: FieldDescriptor | None,
        entry: Entry,
        layer: str,
        prefix: str,
    ) -> bool:
        """Takes what only forks have in V1 layers: other types, and options that V2 layers have."""
        if not isinstance(message, V1LayerParameter):
            return False
        value = entry.value
        if field is None and entry.name in LayerParameter.DESCRIPTOR.fields_by_name:
            self.fill(message.fork_layer, (entry,), layer, prefix)
            return True
        if field is None or field.name != "type" or not isinstance(value, Scalar):
            return False
        if message.HasField("type") or message.fork_layer.HasField("type"):
            self.fail("'type' is given more than once", entry)
        if value.kind != "word" or value.text in _V1_TYPES:
            return False
        message.fork_layer.type = value.text
        return True

    def block(
        self, message: Message, field: FieldDescriptor, entry: Entry, layer: str, prefix: str
    ) -> None:
        if isinstance(entry.value, Scalar):
            found = entry.value.text[:40]
            self.fail(f"'{entry.name}' takes a block {{ ... }}, found {found!r}", entry)
        if (other := _GENERATIONS.get(field.name)) and _has(message, other):
            self.fail(
                "both 'layer' and 'layers' blocks (two generations) in one file; "
                "write all layers as 'layer'",
                entry,
            )
        if is_repeated(field):
            inner = getattr(message, field.name).add()
        else:
            if message.HasField(field.name):
                self.fail(f"'{entry.name}' is given more than once", entry)
            inner = getattr(message, field.name)
            inner.SetInParent()
        if field.name in ("layer", "layers") and message.DESCRIPTOR.name == "NetParameter":
            name = _name_of(entry.value)
            self.layers[name] += 1
            self.fill(inner, entry.value, name, "")
        else:
            self.fill(inner, entry.value, layer, f"{prefix}{entry.name}.")
        if not inner.IsInitialized():
            lacking = ", ".join(inner.FindInitializationErrors())
            self.fail(f"'{entry.name}' lacks {lacking}", entry)

    def without_effect(self, field: FieldDescriptor, entry: Entry, layer: str, prefix: str) -> bool:
        """Notes a fork's word for how something is computed, which changes no result."""
        value, kind = entry.value, field.enum_type
        if field.name not in WITHOUT_EFFECT or kind is None or not isinstance(value, Scalar):
            return False
        if value.kind == "number" or value.text in kind.values_by_name:
            return False
        nth = max(self.layers[layer] - 1, 0)
        self.unknown.append(UnknownWord(layer, prefix + field.name, value.text, entry.line, nth))
        return True

    def scalar(self, message: Message, field: FieldDescriptor, entry: Entry) -> None:
        if not isinstance(entry.value, Scalar):
            self.fail(f"'{entry.name}' takes a single value, found a block", entry)
        value = self.convert(field, entry.value)
        if is_repeated(field):
            getattr(message, field.name).append(value)
        elif message.HasField(field.name):
            if field.name not in _LISTS_IN_FORKS:
                self.fail(f"'{entry.name}' is given more than once", entry)
            self.unknown.append(RepeatedField("", field.name, value, entry.line, 0, entry.column))
        else:
            setattr(message, field.name, value)

    def convert(self, field: FieldDescriptor, scalar: Scalar) -> Any:
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self.enum(field, scalar)
        if field.type in _INTEGERS:
            return self.integer(field, scalar)
        if field.type == FieldDescriptor.TYPE_STRING and not scalar.text.isascii():
            self.check_utf8(scalar)
        value = _plain_value(field.type, scalar)
        if value is None:
            expected = _TYPE_NAMES[field.type]
            self.fail(f"'{field.name}' takes {expected}, found {scalar.text[:40]!r}", scalar)
        return value

    def plain(self, value: Scalar | tuple[Entry, ...]) -> Plain:
        """The value of a field that the schema does not have."""
        if not isinstance(value, Scalar):
            block: dict[str, list[Plain]] = {}
            for entry in value:
                block.setdefault(entry.name, []).append(self.plain(entry.value))
            return block
        if value.kind == "string":
            self.check_utf8(value)
            return value.text
        if value.text in ("true", "false"):
            return value.text == "true"
        number = _integer(value.text)
        if number is not None:
            return number
        real = _number(value.text)
        return value.text if real is None else real

    def check_utf8(self, scalar: Scalar) -> None:
        try:
            scalar.text.encode()
        except UnicodeEncodeError:
            self.fail("a string holds bytes that are not UTF-8", scalar)

    def integer(self, field: FieldDescriptor, scalar: Scalar) -> int:
        low, high = _INTEGERS[field.type]
        number = _integer(scalar.text) if scalar.kind == "number" else None
        if number is None or not low <= number <= high:
            message = f"'{field.name}' takes a whole number from {low} to {high}"
            self.fail(f"{message}, found {scalar.text[:40]!r}", scalar)
        return number

    def enum(self, field: FieldDescriptor, scalar: Scalar) -> int:
        kind = field.enum_type
        assert kind is not None
        values = kind.values_by_name
        if scalar.kind == "word" and scalar.text in values:
            return int(values[scalar.text].number)
        number = _integer(scalar.text) if scalar.kind == "number" else None
        if number is None or number not in kind.values_by_number:
            choices = ", ".join(values)
            self.fail(f"'{field.name}' takes one of {choices}; found {scalar.text[:40]!r}", scalar)
        return number


def _plain_value(type: int, scalar: Scalar) -> str | bytes | float | None:
    """A string, number or truth value; None where the text is none."""
    text = scalar.text
    if scalar.kind == "string":
        if type == FieldDescriptor.TYPE_BYTES:
            return text.encode(errors="surrogateescape")
        return text if type == FieldDescriptor.TYPE_STRING else None
    if type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return _number(text)
    return _BOOLS.get(text.lower()) if type == FieldDescriptor.TYPE_BOOL else None


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field of the schema is a list."""
    # protobuf 6 deprecates `label` and older ones have no `is_repeated`
    flag = getattr(field, "is_repeated", None)
    if flag is None:
        flag = getattr(field, "label") == getattr(FieldDescriptor, "LABEL_REPEATED")  # noqa: B009
    return bool(flag)


def _has(message: Message, field: str) -> bool:
    return message.DESCRIPTOR.name == "NetParameter" and len(getattr(message, field)) > 0


def _name_of(entries: tuple[Entry, ...]) -> str:
    """The layer's name, also of a V0 layer, which keeps it one block deeper."""
    for entry in entries:
        if entry.name == "name" and isinstance(entry.value, Scalar):
            return entry.value.text
        if entry.name == "layer" and not isinstance(entry.value, Scalar):
            return _name_of(entry.value)
    return ""


def _integer(text: str) -> int | None:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if len(digits) > 40:
        return None
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9]\d*", digits, re.ASCII):
        return sign * int(digits, 0)
    return None


def _number(text: str) -> float | None:
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if digits.lower() in ("inf", "infinity", "inff"):
        return sign * math.inf
    if digits.lower() in ("nan", "nanf"):
        return math.nan
    whole = _integer(digits)
    if whole is not None:
        return sign * float(whole)
    try:
        return sign * float(digits.rstrip("fF"))
    except ValueError:
        return None
