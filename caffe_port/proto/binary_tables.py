"""Which field a number stands for in each dialect's binary files, derived from our own schema.

The schema has the fork's fields in BVLC's way at their number plus FORK_NUMBERS; see its header.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from caffe_port.errors import FormatError, option
from caffe_port.proto import caffe_pb2
from caffe_port.proto.dialects import FORK_NUMBERS, LAST_BVLC_V1_TYPE

V1_ONLY = FORK_NUMBERS + 1000  # from here on: what no V2 layer of any fork had
# Where the fork's numbers hold. DeepLab v1 has no V2 layers; we write its nets with v2's numbers.
_OVERLAID = {
    "bvlc": (),
    "deeplab1": ("ConvolutionParameter", "LayerParameter", "LayerType", "V1LayerParameter"),
    "deeplab2": ("LayerParameter",),
    "longjon": (),
}
_COPIES_OF_V2 = {153: 143}  # merges of DeepLab v2 into a later Caffe moved interp_param
_BVLC_OWNERS = {"Clip", "Crop", "Input", "LSTM", "LSTMUnit", "Parameter", "RNN", "Swish"}


def dialect_of_layer(type: str, dialect: str) -> str:
    """The dialect whose numbers a V2 layer's options have: a type of BVLC's alone has BVLC's."""
    return "bvlc" if type in _BVLC_OWNERS else dialect


@functools.cache
def fields_by_wire_number(descriptor: Descriptor, dialect: str) -> Mapping[int, FieldDescriptor]:
    """The fields of a message by the numbers that the dialect's files give them."""
    # upb's own descriptors have the same face
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


def is_v1_only(number: int) -> bool:
    """Whether a field of our V2 layers stands for one that only DeepLab v1's layers had."""
    return V1_ONLY <= number < V1_ONLY + 1000


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
    forks = where in _OVERLAID[dialect] and FORK_NUMBERS <= number < V1_ONLY
    return number - FORK_NUMBERS if forks else number


def wire_number(number: int) -> int:
    """The number that an option of a V2 layer is written with: the schema's, or the fork's own."""
    return number - FORK_NUMBERS if FORK_NUMBERS <= number < V1_ONLY else number
