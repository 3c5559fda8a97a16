"""Any net that can be written in Python survives text, binary files, conversion and both floats.

CAFFE_PORT_NETS=2000 tries so many nets, and others each time.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe_port as cp
from caffe_port.cli.convert import convert_command as convert
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.binary import read_net_binary
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import parse_text
from caffe_port.proto.upgrade import upgrade_net
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import known_types
from prototxt.writing import layer, prototxt
from tests.any_net.draft import any_nets, kinds, net_with
from tests.any_net.old_text import as_v1

MANY = int(os.environ.get("CAFFE_PORT_NETS", "0"))
# their tops may jump where rounding differs
JUMPS = {"ArgMax", "Threshold", "Accuracy", "SegAccuracy", "Filter", "UniqueLabel", "DenseCRF",
         "AdaptiveBiasChannel", "Upsample", "FeedbackLoss", "DetectionOutput", "DetectionEvaluate",
         "Proposal", "MultiBoxLoss", "Unpooling", "RPNProposal", "RPNAnchorTarget",
         "RPNProposalTarget", "EltwiseAccuracy", "Quantize", "Rescale",
         "BoxAnnotatorOHEM", "BoxOutput", "DetectionAccuracy", "DetectionLoss"}  # fmt: skip
NEED_FILES = {"AnnotatedData", "Data", "DenseImageData", "HDF5Data", "HDF5Output", "ImageData",
              "ImageLabelmapData", "ImageSegData", "MatRead", "MatWrite", "MemoryData", "Python",
              "WindowData"}  # fmt: skip
# the number of their items, and of what is computed of them, is only known when a net is run
COUNTED_WHEN_RUN = {"Filter", "DetectionOutput", "DetectionEvaluate", "Proposal", "RPNProposal",
                    "RPNProposalTarget", "BoxOutput"}  # fmt: skip
Values = Mapping[str, torch.Tensor]


def examples(count: int) -> settings:
    """So many in the usual run; CAFFE_PORT_NETS where that is set."""
    return settings(max_examples=MANY or count, derandomize=not MANY, deadline=None)


def survives_text(message: caffe_pb2.NetParameter, folder: Path) -> str:
    """Text, upgrade and binary give the same message; returns the text."""
    text = print_text(message)
    again, unknown = parse_text(text, caffe_pb2.NetParameter())
    assert (again, unknown) == (message, ())
    parsed = parse_net(text)
    upgraded = parsed.message
    once = caffe_pb2.NetParameter.FromString(upgraded.SerializeToString())
    upgrade_net(upgraded, dialect=parsed.dialect)
    assert upgraded == once, "an upgraded net needs no upgrade"
    file = folder / "only_text.caffemodel"
    file.write_bytes(once.SerializeToString())
    embedded = read_net_binary(file).message
    assert embedded == once
    assert parse_net(print_text(embedded)).message == once
    return text


def survives(message: caffe_pb2.NetParameter, values: Values, *, conversion: bool = True) -> None:
    """Text, binary file, every converted format and float64 give the same net and numbers."""
    with tempfile.TemporaryDirectory() as name, torch.random.fork_rng(), torch.no_grad():
        folder = Path(name)
        torch.manual_seed(0)
        text = survives_text(message, folder)
        read = parse_net(text)
        net = Net(NetSpec.build(read.message, phase="TEST", text=text, dialect=read.dialect))
        wide = copy.deepcopy(net).double()  # now: a recurrent layer remembers where it was
        inputs = {n: values.get(n, torch.randn(net.spec.shapes[n])) for n in net.spec.inputs}
        wanted = net(inputs, keep="all")
        for blob, data in wanted.items():
            same_shape = tuple(data.shape) == tuple(net.spec.shapes[blob])
            assert same_shape or blob in _counted_when_run(net.spec), blob
            assert data.isfinite().all(), blob
        _agrees(wide({n: data.double() for n, data in inputs.items()}, keep="all"), wanted, net)
        if conversion:
            _survives_conversion(net, text, folder, inputs, wanted)


def _counted_when_run(spec: NetSpec) -> set[str]:
    """Blobs whose number of items is only known when the net is run."""
    found: set[str] = set()
    for x in spec.layers:
        if x.type in COUNTED_WHEN_RUN or found & set(x.bottoms):
            found.update(x.tops)
    return found


def _survives_conversion(net: Net, text: str, folder: Path, inputs: Values, wanted: Values) -> None:
    """By the command, from a caffemodel into each format and from each back."""
    prototxt, weights = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(text)
    net.save(weights)
    for suffix in (".pt", ".safetensors", ".caffemodel", ".caffemodel.h5"):
        made, back = folder / f"made{suffix}", folder / f"back{suffix}.caffemodel"
        run_convert(prototxt, weights, made)
        if suffix in (".pt", ".safetensors"):
            same(cp.load(made)(inputs, keep="all"), wanted)
            run_convert(made, None, back)
        else:
            run_convert(prototxt, made, back)
        same(cp.load(prototxt, back)(inputs, keep="all"), wanted)


def run_convert(net: Path, weights: Path | None, out: Path) -> None:
    """caffe-port convert."""
    given_weights = [] if weights is None else [str(weights)]
    with contextlib.redirect_stdout(io.StringIO()):
        convert.main([str(net), *given_weights, "-o", str(out)], standalone_mode=False)


def _agrees(wide: Values, wanted: Values, net: Net) -> None:
    """float64 with float32, but where a jump came between."""
    jumping: set[str] = set()
    for x in net.spec.layers:
        jumps = x.type in JUMPS or (x.type == "Pooling" and len(x.tops) > 1)
        if jumps or jumping & set(x.bottoms):
            jumping.update(x.tops)
    # only its parameters tell a net what type its own data should have
    own = {top for x in net.spec.layers if x.type == "DummyData" for top in x.tops}
    has_parameters = any(True for _ in net.parameters())
    for name, blob in wide.items():
        assert blob.dtype == torch.float64 or (name in own and not has_parameters), name
        if name not in jumping:
            scale = max(float(blob.abs().max()) if blob.numel() else 0, 1)
            torch.testing.assert_close(
                blob.float(), wanted[name], rtol=1e-4, atol=1e-5 * scale, msg=name
            )


def same(found: Values, wanted: Values) -> None:
    assert found.keys() == wanted.keys()
    for name, blob in wanted.items():
        assert torch.equal(found[name], blob), name


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_layer(kind: str) -> None:
    survives(*net_with(kind), conversion=False)


def test_every_type_occurs_that_needs_no_files() -> None:
    found = {layer.type for kind in kinds() for layer in net_with(kind)[0].layer}
    assert set(known_types()) - found == NEED_FILES


@examples(15)
@given(any_nets())
def test_nets_of_pycaffes_netspec(net: tuple[caffe_pb2.NetParameter, Values]) -> None:
    survives(*net)


@examples(60)
@given(any_nets())
def test_their_v1_text(net: tuple[caffe_pb2.NetParameter, Values]) -> None:
    message = net[0]
    old = as_v1(message)
    if old is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        survives_text(old, Path(folder))
    wanted = NetSpec.build(message, phase="TEST")
    found = NetSpec.build(parse_net(print_text(old)).message, phase="TEST")
    assert _layers(found) == _layers(wanted)


def _layers(spec: NetSpec) -> list[caffe_pb2.LayerParameter]:
    """Without what the generations say in different words."""
    layers = [x for x in spec.message().layer if x.type not in ("Input", "Split")]
    for x in layers:
        for i, bottom in enumerate(x.bottom):
            x.bottom[i] = re.sub(r"_(\w+)_split_\d+$", "", bottom)
        for param in x.param:  # what is default may be said or not
            param.lr_mult, param.decay_mult, param.name = (
                param.lr_mult, param.decay_mult, param.name
            )  # fmt: skip
    return layers


@examples(40)
@given(any_nets(), st.sampled_from(["TRAIN", "TEST"]), st.integers(0, 1), st.booleans())
def test_specs_by_phase_level_and_stage(
    net: tuple[caffe_pb2.NetParameter, Values], phase: str, level: int, deploy: bool
) -> None:
    """The rules choose as Caffe's, and what a spec writes gives the same spec."""
    state = {"phase": phase, "level": level, "stages": ("deploy",) if deploy else ()}
    spec = NetSpec.build(net[0], **state)
    again = NetSpec.build(parse_net(print_text(spec.message())).message, **state)
    assert again.shapes == spec.shapes
    assert [x.params for x in again.layers] == [x.params for x in spec.layers]
    for x in net[0].layer:
        if x.name.startswith("ruled"):
            assert (x.name in {y.name for y in spec.layers}) == _wanted(x, phase, level, deploy)


def _wanted(layer: caffe_pb2.LayerParameter, phase: str, level: int, deploy: bool) -> bool:
    number = {"TRAIN": 0, "TEST": 1}[phase]
    if layer.exclude:
        return number != layer.exclude[0].phase
    return any(
        (not rule.HasField("phase") or rule.phase == number)
        and (not rule.HasField("min_level") or level >= rule.min_level)
        and (not rule.stage or deploy)
        for rule in layer.include
    )


@st.composite
def written_nets(draw: st.DrawFn) -> str:
    """A chain of layers as the builder of the papers' networks writes it."""
    shape = {"dim": [1, 2, 5, 5]}
    made = [layer("data", "Input", [], input_param={"shape": shape})]
    sizes = st.integers(1, 4)
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["Convolution", "ReLU", "Pooling", "Interp"]))
        options: dict[str, object] = {
            "Convolution": {"convolution_param": {"num_output": draw(sizes), "kernel_size": 1}},
            "ReLU": {},
            "Pooling": {"pooling_param": {"kernel_size": 3, "pad": 1}},
            "Interp": {"interp_param": {"zoom_factor": draw(st.integers(1, 2))}},
        }[kind]  # type: ignore[assignment]
        made.append(layer(f"x{i}", kind, [f"x{i - 1}" if i else "data"], **options))
    return prototxt(made, name="chain")


@examples(10)
@given(written_nets())
def test_nets_of_the_builder(text: str) -> None:
    survives(parse_net(text).message, {})


def test_a_net_that_changes_is_detected() -> None:
    with pytest.raises(AssertionError):
        same({"a": torch.zeros(2)}, {"a": torch.ones(2)})
