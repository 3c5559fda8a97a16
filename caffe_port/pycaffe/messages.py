"""caffe_pb2's nets and layers read and written in binary under the numbers of their dialect.

Scripts call ``NetParameter.FromString`` on caffemodels of DeepLab, whose numbers are not those of
our schema; see docs/dialects.md. The generated classes cannot be subclassed, so their methods are
replaced, for the whole process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.binary import to_schema
from caffe_port.proto.dialects import choose_dialect
from caffe_port.proto.renumber import to_dialect

_READ = (caffe_pb2.NetParameter, caffe_pb2.LayerParameter, caffe_pb2.V1LayerParameter)
_installed: list[type] = []


def install() -> None:
    """Replaces the methods; a second call changes nothing."""
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
        # what callers of protobuf's classes catch
        raise DecodeError(f"Error parsing message: {error}") from error


def _make_writable(kind: Any) -> None:
    plain = kind.SerializeToString

    def write(self: Any, **options: Any) -> bytes:
        encoded = cast("bytes", plain(self, **options))
        dialect = choose_dialect(self, None)
        if dialect in ("bvlc", "longjon"):
            return encoded
        return b"".join(to_dialect(memoryview(encoded), kind.DESCRIPTOR, dialect))

    kind.SerializeToString = write
