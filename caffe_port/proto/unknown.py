"""Fields of a prototxt that the schema does not have, kept so that they are reported and read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from difflib import get_close_matches

from caffe_port.proto import caffe_pb2

_LONG_NAME = 64  # no field's name is as long; comparing names takes the square of their length

WITHOUT_EFFECT = {"engine"}  # options that choose how something is computed, not what

Plain = str | int | float | bool | dict[str, "list[Plain]"]


@dataclass(frozen=True)
class UnknownField:
    """A field that no dialect of the schema has, kept as plain Python values.

    Attributes:
        layer: name of the layer it is in, or '' outside of layers.
        field: its path inside the layer or the net, such as 'my_param' or 'pooling_param.my_flag'.
        value: a str, int, float or bool, or a dict of lists for a block.
        line: where it is; 0 in a binary file.
        nth: which of the layers of that name it is in, from 0: a TRAIN and a TEST layer often
            share one name.
        column: where it is in the line; 0 in a binary file.
        message: the schema's name of the message it is in, such as 'PoolingParameter'.
    """

    layer: str
    field: str
    value: Plain
    line: int
    nth: int = 0
    column: int = 0
    message: str = ""

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.described()}"

    def described(self) -> str:
        """The field without its line, and a similar field that may have been meant."""
        where = f"layer '{self.layer}'" if self.layer else "the net"
        meant = _meant(self.field.rpartition(".")[2], self.message)
        return f"{where}: unknown field '{self.field}'{meant}"


class UnknownWord(UnknownField):
    """An unknown word for an option that changes no result, such as `engine: MKL2017`."""

    def described(self) -> str:
        where = f"layer '{self.layer}'" if self.layer else "the net"
        return f"{where}: '{self.field}: {self.value}' is of another Caffe; it has no effect"


class RepeatedField(UnknownField):
    """A single field that is given more than once, as some fork's list: `device_id: [0, 1]`."""

    def described(self) -> str:
        return f"the net: '{self.field}' is given more than once; Caffe takes one"


@functools.lru_cache(1024)
def _meant(name: str, message: str) -> str:
    """A question for a name that is close to a field's."""
    known = field_names(message) if len(name) < _LONG_NAME else []
    close = get_close_matches(name, known, 1, 0.75)
    return f"; is '{close[0]}' meant?" if close else ""


def field_names(message: str) -> list[str]:
    """The fields of a message of the schema, by the message's name; none where it has no such."""
    kind = getattr(caffe_pb2, message, None)
    return [] if kind is None else list(kind.DESCRIPTOR.fields_by_name)
