"""protobuf as Caffe's scripts use it: binary in each dialect, advice in errors, old class names.

Scripts call ``NetParameter.FromString`` on caffemodels of DeepLab, whose field numbers are not
those of our schema (see docs/dialects.md), and parse prototxts of forks by
``text_format.Merge(text, caffe_pb2.NetParameter())``. The generated classes cannot be subclassed,
so their methods, and functions of ``text_format``, are replaced for the whole process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.binary import to_schema
from caffe_port.proto.dialects import BVLC_NUMBERS, choose_dialect
from caffe_port.proto.renumber import has_own_numbers, to_dialect

# names of protobuf 2 and 3, with which scripts of that time traverse a message
RepeatedScalarContainer = type(caffe_pb2.BlobShape().dim)
RepeatedCompositeContainer = type(caffe_pb2.NetParameter().layer)

_PACKAGE = caffe_pb2.DESCRIPTOR.package
_FUNCTIONS = ("Merge", "MergeLines", "Parse", "ParseLines")
_ADVICE = {
    "has no field named": (
        "It is misspelled, or a field of another fork. "
        "text_format.Merge(text, message, allow_unknown_field=True) skips such fields, and what "
        "the message is written to lacks them; caffe_port.proto.parse_net(text) skips and lists "
        "them"
    ),
    "has no value named": (
        "It is misspelled, or a word of another fork: write one that this type has; "
        "allow_unknown_field does not skip it"
    ),
}
_READ = (caffe_pb2.NetParameter, caffe_pb2.LayerParameter, caffe_pb2.V1LayerParameter)
_installed: list[type] = []


def install_dialects() -> None:
    """Lets nets and layers be read and written in their dialects; a second call does nothing."""
    if _installed:
        return
    for kind in _READ:
        _installed.append(kind)
        _make_readable(kind)
    _make_writable(caffe_pb2.NetParameter)


def _make_readable(kind: Any) -> None:
    descriptor = cast("Descriptor", kind.DESCRIPTOR)

    def reading(method: Callable[[Any, Any], int]) -> Callable[[Any, Any], int]:
        def read(self: Any, serialized: Any) -> int:
            return method(self, _renumbered(serialized, descriptor))

        return read

    def from_string(serialized: Any) -> Any:
        message = kind()
        message.MergeFromString(serialized)
        return message

    kind.ParseFromString = reading(kind.ParseFromString)
    kind.MergeFromString = reading(kind.MergeFromString)
    kind.FromString = staticmethod(from_string)


def _renumbered(serialized: Any, descriptor: Descriptor) -> Any:
    try:
        return to_schema(serialized, descriptor)
    except FormatError as error:
        # the exception that callers of protobuf catch
        raise DecodeError(f"Error parsing message: {error}") from error


def _make_writable(kind: Any) -> None:
    plain = kind.SerializeToString

    def write(self: Any, **options: Any) -> bytes:
        encoded = cast("bytes", plain(self, **options))
        dialect = choose_dialect(self, None)
        if dialect in BVLC_NUMBERS and not has_own_numbers(layer.type for layer in self.layer):
            return encoded
        return b"".join(to_dialect(memoryview(encoded), kind.DESCRIPTOR, dialect))

    kind.SerializeToString = write


def install_advice() -> None:
    """Lets functions of ``text_format`` raise errors with advice; a second call does nothing."""
    for name in _FUNCTIONS:
        function = getattr(text_format, name)
        if not hasattr(function, "__wrapped__"):
            setattr(text_format, name, _advising(function))


def _advising(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(text: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(text, message, *args, **kwargs)
        except text_format.ParseError as error:
            advice = _advice(str(error)) if message.DESCRIPTOR.file.package == _PACKAGE else ""
            if not advice:
                raise
            found = str(error).rstrip(".")
            raise type(error)(f"{found}. {advice}") from None

    return call


def _advice(error: str) -> str:
    """What can be done about an error; '' if its text has the advice already."""
    found = (advice for words, advice in _ADVICE.items() if words in error and advice not in error)
    return next(found, "")
