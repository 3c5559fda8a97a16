"""Targets: from prototxt and embedded layers to a spec and through a forward pass."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

import torch

from caffe_port.errors import CaffePortError
from caffe_port.inspection import inspect_embedded, net_listing
from caffe_port.net import Net
from caffe_port.proto import NetText, caffe_pb2, parse_net
from caffe_port.proto.binary import read_net_binary
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import parse_text
from caffe_port.proto.upgrade import upgrade_net, upgrade_solver
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import known_types
from tests.fuzz import nets_changed
from tests.fuzz.target import Target, as_file, scratch, small
from tests.goldens_dir import GOLDENS, ROOT

MOST_WORK = 10**6  # multiply-adds and blob elements of a net that is worth running here
MOST_VALUES = 10**5


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig", errors="surrogateescape")


def text(data: bytes) -> None:
    """What is read and printed is read as the same."""
    for make in (caffe_pb2.NetParameter, caffe_pb2.SolverParameter):
        try:
            message, unknown = parse_text(_text(data), make())
        except CaffePortError:
            continue
        if not unknown:
            again, left = parse_text(print_text(message), make())
            assert not left
            assert _bytes(again) == _bytes(message)


def _bytes(message: caffe_pb2.NetParameter) -> bytes:
    # equal where == is not: NaN
    encoded: bytes = message.SerializePartialToString(deterministic=True)
    return encoded


def _parsed(data: bytes) -> NetText | None:
    try:
        return parse_net(_text(data))
    except CaffePortError:
        return None


def upgrade(data: bytes) -> None:
    """An upgraded net needs no upgrade."""
    net = _parsed(data)
    if net is not None:
        before = _bytes(net.message)
        with contextlib.suppress(CaffePortError):
            assert upgrade_net(net.message, dialect=net.dialect) == "V2"
            assert _bytes(net.message) == before
    with contextlib.suppress(CaffePortError):
        solver, _ = parse_text(_text(data), caffe_pb2.SolverParameter())
        upgrade_solver(solver)


def embedded(data: bytes) -> None:
    path = as_file(data, "net.caffemodel")
    for dialect in (None, "bvlc", "deeplab1", "deeplab2"):
        with contextlib.suppress(CaffePortError):
            inspect_embedded(path, dialect)
    with contextlib.suppress(CaffePortError):
        net = read_net_binary(path)
        assert parse_net(net.text, dialect=net.dialect).generation == "V2"


def _specs(data: bytes) -> Iterator[NetSpec]:
    net = _parsed(data)
    if net is None:
        return
    for phase in ("TRAIN", "TEST"):
        with contextlib.suppress(CaffePortError):
            copy = caffe_pb2.NetParameter()
            copy.CopyFrom(net.message)
            yield NetSpec.build(copy, phase=phase, dialect=net.dialect, unknown=net.unknown)


def spec(data: bytes) -> None:
    """A spec's own message gives the same spec; listing it never fails."""
    os.chdir(scratch())
    for built in _specs(data):
        net_listing(built, "net", "V2")
        if not built.unknown:
            again = NetSpec.build(built.message(), phase=built.phase, dialect=built.dialect)
            assert again.shapes == built.shapes
            assert [x.params for x in again.layers] == [x.params for x in built.layers]


def forward(data: bytes) -> None:
    """A net that can be built can be run on zeros, or says why not."""
    os.chdir(scratch())
    for built in _specs(data):
        values = sum(math.prod(shape) for shape in built.shapes.values())
        values += sum(math.prod(p.shape) for x in built.layers for p in x.params)
        work = sum(x.multiply_adds for x in built.layers)
        if values > MOST_VALUES or work > MOST_WORK:
            continue
        with contextlib.suppress(CaffePortError):
            net = Net(built)
            inputs = {name: torch.zeros(built.shapes[name]) for name in built.inputs}
            blobs = net(inputs, keep="all")
            loss = sum(blobs[top].sum() * w for x in built.layers
                       for top, w in zip(x.tops, x.loss_weights, strict=True) if w)  # fmt: skip
            if isinstance(loss, torch.Tensor) and loss.requires_grad:
                loss.backward()


def prototxts() -> list[bytes]:
    """Every kind of net the goldens have, without near copies."""
    paths = [*GOLDENS.rglob("*.prototxt"), *(ROOT / "prototxt").rglob("*.prototxt")]
    return [data.replace(b"${", b"{") for data in dict.fromkeys(small(paths))]


def _models() -> Iterator[bytes]:
    """Nets of the text goldens as binary files of every generation."""
    for data in prototxts():
        with contextlib.suppress(CaffePortError):
            message, _ = parse_text(_text(data), caffe_pb2.NetParameter())
            yield _bytes(message)
    yield from small(GOLDENS.rglob("*.caffemodel"))


def words() -> Iterator[bytes]:
    """Names of fields, enum values and layer types."""
    seen: set[str] = set()
    waiting = [caffe_pb2.NetParameter.DESCRIPTOR, caffe_pb2.SolverParameter.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.name in seen:
            continue
        seen.add(kind.name)
        for field in kind.fields:
            if field.message_type is not None:
                yield f"{field.name} {{ ".encode()
                waiting.append(field.message_type)
            else:
                yield f"{field.name}: ".encode()
            if field.enum_type is not None:
                yield from (value.encode() for value in field.enum_type.values_by_name)
    yield from (f'"{name}"'.encode() for name in known_types())
    yield from (b"2147483647", b"-1", b"1e38", b"nan", b"inf", b"4294967295", b" } ", b"-inf")


NETS = {
    "text": Target(text, prototxts, words, nets_changed.text),
    "upgrade": Target(upgrade, prototxts, words, nets_changed.text),
    "embedded": Target(embedded, _models, structured=nets_changed.binary),
    "netspec": Target(spec, prototxts, words, nets_changed.text),
    "forward": Target(forward, prototxts, words, nets_changed.text),
}
