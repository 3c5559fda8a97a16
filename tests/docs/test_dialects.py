"""The numbers in docs/dialects.md are those that files are read by."""

from __future__ import annotations

import re

import pytest

from caffe_port.proto import caffe_pb2
from caffe_port.proto.renumber import V1_ONLY, fields_by_wire_number, v1_type
from tests.goldens_dir import ROOT

PAGE = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
DIALECTS = ("bvlc", "deeplab2", "deeplab1")


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [[cell.strip("` ") for cell in line.split("|")] for line in lines[1:]]


def read_as(message: str, number: int, dialect: str) -> str | None:
    field = fields_by_wire_number(getattr(caffe_pb2, message).DESCRIPTOR, dialect).get(number)
    return None if field is None else field.name


@pytest.mark.parametrize("row", rows("Options of a layer"), ids=lambda row: row[0])
def test_options_of_a_layer(row):
    name, *numbers = row
    for dialect, number in zip(DIALECTS[:2], numbers[:2], strict=True):
        if number != "-":
            assert read_as("LayerParameter", int(number), dialect) == name
    known = {field.name for field in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields}
    if numbers[2] != "-" and name in known:
        assert read_as("V1LayerParameter", int(numbers[2]), "deeplab1") == name


@pytest.mark.parametrize("row", rows("Shared options of a layer"), ids=lambda row: row[0])
def test_shared_options_of_a_layer(row):
    name, of_v2, of_v1 = row
    readings = {"LayerParameter": (of_v2, DIALECTS[:2]), "V1LayerParameter": (of_v1, DIALECTS)}
    for message, (number, dialects) in readings.items():
        for dialect in dialects if number != "-" else ():
            assert read_as(message, int(number), dialect) == name


@pytest.mark.parametrize("row", rows("Enums"), ids=lambda row: row[0])
def test_enums(row):
    message, enum = row[0].split(".")
    values = getattr(caffe_pb2, message).DESCRIPTOR.enum_types_by_name[enum].values_by_name
    for name, number in re.findall(r"`?(\w+)`? (\d+)", row[1]):
        assert values[name].number == int(number)


def test_the_v1_types_that_all_share():
    section = PAGE.split("### V1 layer types\n", 1)[1].split("|", 1)[0]
    shared = re.findall(r"(\d+)\s`(\w+)`", section)
    assert [int(number) for number, _ in shared] == list(range(39))
    for number, name in shared:
        types = caffe_pb2.V1LayerParameter.LayerType
        assert [types.Name(v1_type(int(number), dialect)) for dialect in DIALECTS] == [name] * 3


@pytest.mark.parametrize("row", rows("V1 layer types"), ids=lambda row: row[0])
def test_v1_types(row):
    number, bvlc, deeplab1 = row
    types = caffe_pb2.V1LayerParameter.LayerType
    if bvlc != "-":
        assert types.Name(v1_type(int(number), "bvlc")) == bvlc
    assert types.Name(v1_type(int(number), "deeplab1")) == deeplab1


@pytest.mark.parametrize("row", rows("Fields within messages"), ids=lambda row: ".".join(row[:2]))
def test_fields_within_messages(row):
    message, name, *numbers = row
    for dialect, number in zip(DIALECTS, numbers, strict=True):
        if number != "-":
            assert read_as(message, int(number), dialect) == name


def test_nothing_of_a_fork_is_left_out():
    shown = {row[0] for row in rows("Options of a layer")}
    forks = {
        field.name for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields
        if 10000 <= field.number < V1_ONLY
    }  # fmt: skip
    assert forks <= shown
