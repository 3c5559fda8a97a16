"""Any net that can be written in Python survives text, binary files, conversion and both floats."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe_port as cp
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.binary import read_net_binary
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import parse_text
from caffe_port.pycaffe.net_spec import NetSpec
from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from caffe_port.spec import NetSpec as Spec
from prototxt.writing import layer, prototxt

SIZES = st.integers(1, 4)
FILLED = {"weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant", "value": 0.1}}


def neuron(type_name: str, **options: Any) -> Any:
    """A layer that keeps the shape, in place or not."""

    def add(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
        in_place = draw(st.booleans()) and type_name in ("ReLU", "Dropout", "Sigmoid")
        return getattr(L, type_name)(top, in_place=in_place, **options), shape

    return add


def convolution(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    outputs, kernel = draw(SIZES), draw(st.sampled_from([1, 3]))
    dilation = draw(st.integers(1, 2))
    group = shape[1] if outputs % shape[1] == 0 and draw(st.booleans()) else 1
    made = L.Convolution(
        top, num_output=outputs, kernel_size=kernel, pad=dilation * (kernel // 2), group=group,
        dilation=dilation, bias_term=draw(st.booleans()), **FILLED,
        param=[{"lr_mult": 1}] if draw(st.booleans()) else [],
    )  # fmt: skip
    return made, [shape[0], outputs, *shape[2:]]


def pooling(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    # stride 1 and padding keep the shape, as DeepLab's pool4 and pool5
    return L.Pooling(top, pool=draw(st.sampled_from([0, 1])), kernel_size=3, pad=1), shape


def residual(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    other = L.Power(top, scale=draw(st.sampled_from([0.5, -1.0])), shift=0.25)
    kind = draw(st.sampled_from(["sum", "max", "concat", "product"]))
    if kind == "concat":
        return L.Concat(top, other, axis=1), [shape[0], 2 * shape[1], *shape[2:]]
    options = {"sum": {"coeff": [1.0, 0.5]}, "max": {"operation": 2}, "product": {"operation": 0}}
    return L.Eltwise(top, other, **options[kind]), shape


def interp(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return L.Interp(top, height=height, width=width), [*shape[:2], height, width]


def deconvolution(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    options = {"num_output": draw(SIZES), "kernel_size": 2, "stride": 2, **FILLED}
    made = L.Deconvolution(top, convolution_param=options)
    return made, [shape[0], options["num_output"], 2 * shape[2], 2 * shape[3]]


def scaled(draw: st.DrawFn, top: Any, shape: list[int]) -> tuple[Any, list[int]]:
    normalised = L.BatchNorm(top, use_global_stats=True)
    return L.Scale(normalised, in_place=draw(st.booleans()), bias_term=True), shape


KINDS = [
    convolution, pooling, residual, interp, deconvolution, scaled,
    neuron("ReLU"), neuron("Sigmoid"), neuron("TanH"), neuron("AbsVal"), neuron("ELU", alpha=0.5),
    neuron("PReLU"), neuron("Dropout", dropout_ratio=0.3), neuron("LRN", local_size=3),
    neuron("Power", power=2.0), neuron("Softmax"), neuron("MVN"), neuron("Exp", scale=0.1),
    neuron("BNLL"), neuron("Bias"),
]  # fmt: skip


@st.composite
def pycaffe_nets(draw: st.DrawFn) -> caffe_pb2.NetParameter:
    """A small net of many types, as pycaffe's NetSpec makes it."""
    net, shape = NetSpec(), [draw(st.integers(1, 2)), draw(SIZES), 3 + draw(SIZES), 3 + draw(SIZES)]
    net.data = top = L.Input(shape={"dim": shape})
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)):
        top, shape = kind(draw, top, shape)
        if max(shape) > 24:
            break
    if draw(st.booleans()):
        top = L.InnerProduct(top, num_output=draw(SIZES), **FILLED)
    net.result = top if top is not net.data else L.Split(top)
    return net.to_proto()


@st.composite
def written_nets(draw: st.DrawFn) -> str:
    """A chain of layers as the builder of the papers' networks writes it."""
    shape = {"dim": [1, 2, 5, 5]}
    made = [layer("data", "Input", [], input_param={"shape": shape})]
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["Convolution", "ReLU", "Pooling", "Interp"]))
        options: dict[str, object] = {
            "Convolution": {"convolution_param": {"num_output": draw(SIZES), "kernel_size": 1}},
            "ReLU": {},
            "Pooling": {"pooling_param": {"kernel_size": 3, "pad": 1}},
            "Interp": {"interp_param": {"zoom_factor": draw(st.integers(1, 2))}},
        }[kind]  # type: ignore[assignment]
        made.append(layer(f"x{i}", kind, [f"x{i - 1}" if i else "data"], **options))
    return prototxt(made, name="chain")


def survives(message: caffe_pb2.NetParameter) -> None:
    """Text, binary file and both converted formats give the same net with the same numbers."""
    text = print_text(message)
    again, unknown = parse_text(text, caffe_pb2.NetParameter())
    assert (again, unknown) == (message, ())
    net = Net(Spec.build(parse_net(text).message, text=text))
    inputs = {name: torch.randn(net.spec.shapes[name]) for name in net.spec.inputs}
    wanted = net(inputs, keep="all")
    assert {n: tuple(b.shape) for n, b in wanted.items()} == dict(net.spec.shapes)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".pt", ".safetensors"):
            net.save(Path(folder) / f"net{suffix}")
            same(cp.load(Path(folder) / f"net{suffix}")(inputs, keep="all"), wanted)
        file = Path(folder) / "net.caffemodel"
        net.save(file)
        embedded = read_net_binary(file)
        assert embedded.message == net.spec.message()
        assert parse_text(print_text(embedded.message), caffe_pb2.NetParameter())[0] == (
            embedded.message
        )
        (Path(folder) / "net.prototxt").write_text(text)
        same(cp.load(Path(folder) / "net.prototxt", file)(inputs, keep="all"), wanted)
    wide = net.double()({name: data.double() for name, data in inputs.items()}, keep="all")
    for name, blob in wide.items():
        assert blob.dtype == torch.float64
        torch.testing.assert_close(blob.float(), wanted[name], rtol=1e-3, atol=1e-4)


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, blob in wanted.items():
        assert torch.equal(found[name], blob), name


@settings(max_examples=25)
@given(pycaffe_nets())
def test_nets_of_pycaffes_netspec(message: caffe_pb2.NetParameter) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        survives(message)


@settings(max_examples=10)
@given(written_nets())
def test_nets_of_the_builder(text: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        survives(parse_net(text).message)


def test_a_net_that_does_not_come_back_is_noticed() -> None:
    with pytest.raises(AssertionError):
        same({"a": torch.zeros(2)}, {"a": torch.ones(2)})
