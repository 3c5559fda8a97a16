"""Printing prototxt: byte for byte what Caffe's tools wrote, and read back equal."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_port.proto import caffe_pb2, read_net, read_solver
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import parse_text
from tests.goldens_dir import GOLDENS

UPGRADED = sorted((GOLDENS / "io").glob("*.upgraded.prototxt"))


@pytest.mark.parametrize("wanted", UPGRADED, ids=lambda path: path.name)
def test_prints_what_caffes_upgrade_tools_wrote(wanted: Path) -> None:
    source = wanted.with_name(wanted.name.replace(".upgraded", ""))
    message = read_solver(source) if "solver" in source.name else read_net(source)
    assert print_text(message) == wanted.read_text()


@given(st.floats(width=32), st.text(), st.integers(-(2**31), 2**31 - 1))
def test_reads_back_equal(real: float, text: str, number: int) -> None:
    solver = caffe_pb2.SolverParameter(base_lr=real, snapshot_prefix=text, test_iter=[number, 1])
    back, unknown = parse_text(print_text(solver), caffe_pb2.SolverParameter())
    assert unknown == ()
    if math.isnan(real):
        assert math.isnan(back.base_lr)
        back.base_lr = solver.base_lr = 0
    assert back == solver


def test_numbers_are_as_short_as_they_can_be() -> None:
    values = [1.0, 0.1, 1e-10, 16777216.0, 1 / 3, 3.4028234663852886e38, math.inf, -math.inf]
    message = caffe_pb2.BlobProto(data=values, double_data=[0.1, 1 / 3])
    words = [line.split(": ")[1] for line in print_text(message).splitlines()]
    assert words == [
        "1", "0.1", "1e-10", "16777216", "0.33333334", "3.4028235e+38", "inf", "-inf",
        "0.1", "0.3333333333333333",
    ]  # fmt: skip


def test_strings_are_escaped_byte_by_byte() -> None:
    net = caffe_pb2.NetParameter(name="a\"b\\c\n\t'é\x01")
    assert print_text(net) == 'name: "a\\"b\\\\c\\n\\t\\\'\\303\\251\\001"\n'


def test_an_empty_block_stays() -> None:
    layer = caffe_pb2.LayerParameter(name="x")
    layer.softmaxloss_param.SetInParent()
    assert print_text(layer) == 'name: "x"\nsoftmaxloss_param {\n}\n'
