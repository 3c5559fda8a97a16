"""A net under torch.jit.trace, torch.export and torch.compile."""

from __future__ import annotations

import io
import warnings

import pytest
import torch

from caffe_port.blobs import Blobs
from caffe_port.errors import LayerError, SideEffectWarning
from tests.any_net.draft import kinds
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer
from tests.torch_module.nets import THREE, image, losing, of_kind, run, same, segmenting

pytestmark = [  # torch's own, of deprecated functions and of what it does itself
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
# a loss has a gradient of its own and a check of its labels; the others compute on values, or
# outside of torch
NOT_SAVED = {"SoftmaxWithLoss", "InfogainLoss", "MultinomialLogisticLoss", "ContrastiveLoss",
             "DomainTransform", "SoftmaxWithLossOHEM", "DenseCRFLoss",
             "MultiStageMeanfield"}  # fmt: skip
NOT_EXPORTED = {"SoftmaxWithLoss", "InfogainLoss", "MultinomialLogisticLoss", "HingeLoss",
                "FeedbackLoss", "Accuracy", "SegAccuracy", "UniqueLabel", "DomainTransform",
                "DenseCRF", "DenseCRFLoss", "MultiStageMeanfield", "BoxOutput", "DetectionAccuracy",
                "DetectionEvaluate", "DetectionLoss", "DetectionOutput", "MultiBoxLoss", "Proposal",
                "proposed ROIPooling", "RPNAnchorTarget", "RPNProposal",
                "RPNProposalTarget"}  # fmt: skip
BITS = {"MultiChannelReweightedSigmoidCrossEntropyLoss", "MultiChannelSigmoidCrossEntropyLoss"}


def traced(net, inputs):
    torch.manual_seed(1)
    with torch.no_grad():
        return torch.jit.trace(net, (inputs,), strict=False, check_trace=False)


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


@pytest.mark.parametrize("kind", sorted(BITS))
def test_a_trace_refuses_bits_and_an_export_has_them(kind):
    net, inputs = of_kind(kind, set(kinds()) - {"ReLU"})
    with pytest.raises(LayerError, match="cannot record the bits of labels"):
        traced(net, inputs)
    wanted = run(net, inputs)
    same(run(torch.export.export(net, (inputs,)).module(), inputs), wanted)


@pytest.mark.parametrize("kind", sorted(set(kinds()) - {"FeedbackLoss"} - BITS))
def test_every_kind_of_layer_is_traced(kind):
    net, inputs = of_kind(kind, BITS)
    module = traced(net, inputs)
    net, inputs = of_kind(kind, BITS)
    wanted = run(net, inputs)
    same(run(module, inputs), wanted)
    if {layer.type for layer in net.spec.layers} & NOT_SAVED:
        return
    stream = io.BytesIO()
    torch.jit.save(module, stream)
    stream.seek(0)
    same(run(torch.jit.load(stream), inputs), wanted)


def test_a_trace_warns_of_nothing_and_refuses_other_sizes():
    net = segmenting()
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        module = torch.jit.trace(net, (image(),), strict=False)
    same(module(image()), net(image()))
    for shape in [(2, 3, 9, 12), (2, 3, 18, 11), (1, 3, 9, 11), (2, 3, 1, 11)]:
        with pytest.raises(RuntimeError, match="split_with_sizes expects split_sizes to sum"):
            module(image(*shape))


@pytest.mark.parametrize("name", ["data", "loaded", "spec", "a/b", "x y"])
def test_layers_of_any_name_are_traced(name):
    net = net_of(conv(name, "b0", "out"), (2, 3, 6, 6))
    same(traced(net, image(2, 3, 6, 6))(image(2, 3, 6, 6)), net(image(2, 3, 6, 6)))


ANY = torch.export.Dim.DYNAMIC
SIZES = [(1, 3, 1, 1), (1, 3, 2, 1), (3, 3, 1, 5), (2, 3, 8, 8), (1, 3, 9, 11), (2, 3, 16, 30)]


def test_an_export_takes_any_batch_height_and_width():
    net = segmenting()
    program = torch.export.export(net, (image(),), dynamic_shapes=({0: ANY, 2: ANY, 3: ANY},))
    module = program.module()
    for shape in SIZES:
        found = module(image(*shape))
        assert type(found) is dict
        same(found, net(image(*shape)))


def test_a_saved_export(tmp_path):
    net = segmenting()
    program = torch.export.export(net, ({"b0": image()},), {"keep": ["c2", "up"]})
    torch.export.save(program, tmp_path / "net.pt2")
    module = torch.export.load(tmp_path / "net.pt2").module()
    same(module({"b0": image()}, keep=["c2", "up"]), net(image(), keep=["c2", "up"]))


WINDOWS = {
    "stride above the kernel": "kernel_size: 2 stride: 3",
    "rounded down": "kernel_size: 3 stride: 2 round_mode: FLOOR",
    "average": "pool: AVE kernel_size: 3 stride: 2 pad: 1",
    "pad of one axis": "kernel_h: 2 kernel_w: 3 stride: 2 pad_h: 0 pad_w: 1",
}


@pytest.mark.parametrize("options", WINDOWS.values(), ids=WINDOWS)
def test_an_export_is_right_or_refused_for_every_size(options):
    """Where torch would need to know more than the size it was exported with, it raises."""
    net = net_of(layer("p", "Pooling", "b0", more=f"pooling_param {{ {options} }}"), (1, 2, 9, 11))
    program = torch.export.export(net, (image(1, 2, 9, 11),), dynamic_shapes=({2: ANY, 3: ANY},))
    module, refused = program.module(), []
    for height in range(3, 14):
        x = image(1, 2, height, 11)
        try:
            found = module(x)
        except (AssertionError, RuntimeError) as error:
            refused.append(str(error))
        else:
            same(found, net(x))
    assert all("Guard failed" in message for message in refused)
    assert len(refused) <= (10 if "stride: 3" in options else 2)


@pytest.mark.parametrize("kind", ["mask", "embedded", "BatchReindex", "SPP", "Crop", "LRN", "RNN"])
def test_kinds_of_layers_that_choose_places_are_exported(kind):
    net, inputs = of_kind(kind, NOT_EXPORTED)
    wanted = run(net, inputs)
    net, _ = of_kind(kind, NOT_EXPORTED)
    assert not {layer.type for layer in net.spec.layers} & NOT_EXPORTED
    same(run(torch.export.export(net, (inputs,)).module(), inputs), wanted)


def test_an_export_refuses_an_index_outside():
    text = layer("e", "Embed", "b0", more="embed_param { input_dim: 3 num_output: 2 }")
    net = net_of(text, (2,))
    module = torch.export.export(net, (torch.tensor([0.0, 2.0]),)).module()
    assert torch.equal(module(torch.tensor([1.0, 2.0]))["e"], net(torch.tensor([1.0, 2.0]))["e"])
    with pytest.raises(IndexError, match="out of range"):
        module(torch.tensor([1.0, 3.0]))


def close(found, wanted):
    """aot_eager and the inductor resize by other formulas."""
    assert set(found) == set(wanted)
    for name, blob in wanted.items():
        torch.testing.assert_close(found[name], blob, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", ["outputs", "all", ("c2", "b0")])
@pytest.mark.parametrize(("backend", "equal"), [("eager", same), ("aot_eager", close)])
def test_compiled_into_one_graph(backend, equal, keep):
    net = segmenting()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    found = compiled(image(), keep=keep)
    assert isinstance(found, Blobs)
    equal(found, net(image(), keep=keep))
    other = image(1, 3, 13, 7)
    equal(compiled(other, keep=keep), net(other, keep=keep))


def test_an_eager_run_after_compilation():
    """What was planned in the graph is the plan of other passes too."""
    net = segmenting()
    torch.compile(net, backend="eager", fullgraph=True)(image())
    same(net(image()), segmenting()(image()))


def test_training_compiled():
    net, inputs = losing()
    plain, _ = losing()
    torch.compile(net, backend="aot_eager")(inputs)["loss"].backward()
    plain(inputs)["loss"].backward()
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["mask", "SPP", "Reshape", "Crop", "BatchNorm", "LSTM", "slices"])
def test_kinds_of_layers_are_compiled(kind):
    net, inputs = of_kind(kind)
    wanted = run(net, inputs)
    net, _ = of_kind(kind)
    same(run(torch.compile(net, backend="eager"), inputs), wanted)


def test_a_compiled_net_warns_of_side_effects():
    text = layer("f", "Flatten", "b0", "f") + layer("r", "ReLU", "f", "f")
    net = net_of(text + layer("a", "AbsVal", "b0"), (2, 3, 9, 11))
    with pytest.warns(SideEffectWarning, match="Data and diffs of net '' are not Caffe's"):
        torch.compile(net, backend="eager")(image())


def test_compiled_by_the_inductor():
    """Of convolutions alone, which need no C++ compiler."""
    text = conv("c", "b0", options=f"{THREE} pad: 1") + conv("d", "c", options=THREE)
    net = net_of(text, (2, 3, 9, 11))
    close(torch.compile(net, fullgraph=True)(image()), net(image()))
