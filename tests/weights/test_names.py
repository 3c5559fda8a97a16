"""Name maps, and what is refused of state dicts with names."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

import caffe_port as cp
from caffe_port.cli import main
from caffe_port.errors import FormatError, UsageError, WeightMismatchError
from caffe_port.weights import known_name_maps, load_named_state, name_map, named_state
from tests.goldens_dir import GOLDENS

TEXT = """
name: "small" input: "data" input_shape { dim: [1, 3, 8, 8] }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false
    weight_filler { type: "gaussian" std: 1 } } }
layer { name: "bn_conv1" type: "BatchNorm" bottom: "conv1" top: "conv1"
  batch_norm_param { use_global_stats: true } }
layer { name: "scale_conv1" type: "Scale" bottom: "conv1" top: "conv1"
  scale_param { bias_term: true } }
layer { name: "fc1000" type: "InnerProduct" bottom: "conv1" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 1 } } }
"""
CASE = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"


@pytest.fixture
def net(tmp_path):
    return small(tmp_path)


def small(folder, text=TEXT):
    path = folder / "net.prototxt"
    path.write_text(text)
    net = cp.load(path)
    with torch.no_grad():
        mean, variance, factor = net.layer_params("bn_conv1")
        mean.copy_(torch.tensor([1.0, -2.0, 0.1, 7.7]))
        variance.copy_(torch.tensor([1.0, 2.0, 30.1, 0.7]))
        factor.fill_(3)
    return net


def run(*args):
    return CliRunner().invoke(main, ["convert", *map(str, args)])


def bits(net):
    return {name: values.detach().numpy().tobytes() for name, values in net.named_parameters()}


def test_the_values_of_every_rule(net):
    state = named_state(net, "torchvision")
    assert list(state) == [
        "conv1.weight", "bn1.num_batches_tracked", "bn1.running_mean", "bn1.running_var",
        "bn1.weight", "bn1.bias", "fc.weight", "fc.bias",
    ]  # fmt: skip
    # as Caffe's BatchNorm computes it: times the reciprocal, in float32
    third = np.float32(1) / np.float32(3)
    want = np.array([1, -2, 0.1, 7.7], np.float32) * third
    assert state["bn1.running_mean"].numpy().tobytes() == want.tobytes()
    assert state["bn1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(state["bn1.weight"], net.layer_params("scale_conv1")[0])
    assert state["fc.weight"].shape == (5, 144)
    state["conv1.weight"] += 1  # a copy
    assert not torch.equal(state["conv1.weight"], net.layer_params("conv1")[0])


def saved(net, path, how):
    """The net's state dict in one of the ways that files are found in."""
    state = named_state(net, "torchvision")
    plain = OrderedDict(state)
    if how == "safetensors":
        safetensors.torch.save_file(dict(plain), path)
    elif how == "zip":
        torch.save(plain, path)
    elif how == "before 1.6":
        torch.save(plain, path, _use_new_zipfile_serialization=False)
    elif how == "DataParallel":
        torch.save({f"module.{key}": values for key, values in plain.items()}, path)
    elif how == "checkpoint":
        torch.save({"epoch": 3, "state_dict": plain, "optimizer": {"state": {}}}, path)
    elif how == "without counters":
        torch.save({k: v for k, v in plain.items() if "tracked" not in k}, path)
    elif how == "transposed in memory":
        plain["fc.weight"] = plain["fc.weight"].T.contiguous().T
        torch.save(plain, path)
    return path


@pytest.mark.parametrize(
    "how", ["safetensors", "zip", "before 1.6", "DataParallel", "checkpoint", "without counters",
            "transposed in memory"],
)  # fmt: skip
def test_files_of_any_origin_are_read(net, tmp_path, how):
    path = saved(net, tmp_path / "x.pth", how)
    back = cp.load(tmp_path / "net.prototxt", path, names="torchvision")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(back.layer_params("conv1")[0], net.layer_params("conv1")[0])
    assert torch.equal(back.layer_params("fc1000")[0], net.layer_params("fc1000")[0])
    assert back.layer_params("bn_conv1")[2].item() == 1  # nothing says what the factor was
    assert torch.equal(back({"data": x})["fc"], net({"data": x})["fc"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_half_precision_is_widened(net, tmp_path, dtype, suffix):
    state = {k: v.to(dtype) if v.is_floating_point() else v
             for k, v in named_state(net, "torchvision").items()}  # fmt: skip
    path = tmp_path / f"x.{suffix}"
    (torch.save if suffix == "pth" else safetensors.torch.save_file)(state, path)
    back = cp.load(tmp_path / "net.prototxt", path, names="torchvision")
    assert torch.equal(back.layer_params("fc1000")[0], state["fc.weight"].float())


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_state_dicts_of_the_net_and_of_its_module_need_no_names(tmp_path, suffix):
    prototxt = CASE / "net.prototxt"
    net = cp.load(prototxt, CASE / "net.caffemodel")
    own, emitted = tmp_path / f"own.{suffix}", tmp_path / f"emitted.{suffix}"
    state = {key: values.detach() for key, values in net.state_dict().items()}
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(state, own)
    cp.export.emit_module(net, tmp_path / "module.py", emitted)
    for file in (own, emitted):
        result = run(prototxt, file, "-o", tmp_path / "back.caffemodel")
        assert result.exit_code == 0, result.output
        assert bits(cp.load(prototxt, tmp_path / "back.caffemodel")) == bits(net)


def test_shared_parameters_may_be_stored_once(tmp_path):
    shared = (
        TEXT
        + """
layer { name: "again" type: "Convolution" bottom: "data" top: "again" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }"""
    )
    text = shared.replace('top: "conv1"\n  conv', 'top: "conv1" param { name: "w" }\n  conv', 1)
    net = small(tmp_path, text)
    state = {key: values for key, values in net.state_dict().items() if key != "again.weight"}
    torch.save(state, tmp_path / "x.pth")
    assert bits(cp.load(tmp_path / "net.prototxt", tmp_path / "x.pth")) == bits(net)


def test_the_message_says_whose_names_fit(net, tmp_path):
    path = saved(net, tmp_path / "x.pth", "zip")
    result = run(tmp_path / "net.prototxt", path, "-o", tmp_path / "back.caffemodel")
    assert result.exit_code == 2
    assert "another program has names that fit convert --names torchvision" in result.output
    with pytest.raises(WeightMismatchError, match="fit names='torchvision': its first key"):
        cp.load(tmp_path / "net.prototxt", saved(net, tmp_path / "y.pth", "DataParallel"))
    torch.save({"other": torch.ones(2)}, path)
    with pytest.raises(WeightMismatchError, match="needs names='NAMES', which says"):
        cp.load(tmp_path / "net.prototxt", path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc.bias": None}, r"missing: fc.bias \(layer 'fc1000', bias\)"),
        ({"fc.other": torch.ones(2, 3)}, r"not in the net: fc.other \(2, 3\)"),
        ({"fc.bias": torch.ones(6)}, r"fc.bias: float32 \(6,\) stored, float \(5,\) expected"),
        ({"fc.bias": torch.ones(5).long()}, r"fc.bias: int64 \(5,\) stored, float \(5,\)"),
        ({"fc.weight": torch.ones(144, 5)}, r"fc.weight: float32 \(144, 5\) stored"),
        ({"bn1.running_var": None}, "bn1.running_mean: the other of .* is missing"),
        ({"bn1.running_mean": None, "bn1.running_var": None}, "missing: bn1.running_mean"),
    ],
)
def test_what_does_not_fit(net, change, words):
    state = named_state(net, "torchvision")
    state.update(change)
    for key in [key for key, values in state.items() if values is None]:
        del state[key]
    before = bits(net)
    with pytest.raises(WeightMismatchError, match=words):
        load_named_state(net, state, "torchvision")
    assert bits(net) == before
    if words.startswith(("missing", "not in")):
        load_named_state(net, state, "torchvision", strict=False)
        assert bits(net) == before
    else:
        with pytest.raises(WeightMismatchError, match=words):
            load_named_state(net, state, "torchvision", strict=False)


@pytest.mark.parametrize(
    ("state", "words"),
    [({"a": 3}, "'a' is not a dense tensor"), ({}, "no tensors"), ([1], "holds a list"),
     ({"a": torch.ones(1).expand(9)}, "expanded"), ({"a": torch.ones(2).cfloat()}, "complex")],
)  # fmt: skip
def test_what_is_no_state_dict(net, tmp_path, state, words):
    with pytest.raises(UsageError, match=words):
        load_named_state(net, state, "torchvision")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(FormatError, match=words) as caught:
        cp.load(tmp_path / "net.prototxt", tmp_path / "x.pth", names="torchvision")
    assert caught.value.path == str(tmp_path / "x.pth")


def test_an_old_file_cannot_claim_more_than_it_holds(tmp_path):
    torch.save({"a": torch.zeros(77)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pth").read_bytes()
    assert b"K\x4d" in content  # the pickled 77
    claim = b"J" + (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "x.pth").write_bytes(content.replace(b"K\x4d", claim))
    with pytest.raises(FormatError, match="torch cannot load it safely") as caught:
        cp.weights.read_any_weights(tmp_path / "x.pth")
    assert "Python pickle" not in str(caught.value)


def test_an_old_file_runs_no_code(tmp_path):
    torch.save(torch.nn.ReLU(), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match=r"needs \S+ReLU to be run"):
        cp.weights.read_any_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("metadata", ["{", "[]", '{"sums": 3}', '{"sums": {"bn1": 3}}',
    '{"sums": {"bn1": {"factor": "x"}}}', '{"names": ["isht7"]}',
    '{"sums": {"bn1": {"factor": "AAAAAA==", "running_mean": "AAAAAA=="}}}'])  # fmt: skip
def test_metadata_is_not_trusted(net, tmp_path, metadata):
    state = named_state(net, "torchvision")
    state._metadata = {"caffe_port": {"caffe_port": metadata}}
    torch.save(state, tmp_path / "x.pth")
    if metadata == "{":
        with pytest.raises(FormatError, match="is not JSON"):
            cp.load(tmp_path / "net.prototxt", tmp_path / "x.pth", names="torchvision")
        return
    back = cp.load(tmp_path / "net.prototxt", tmp_path / "x.pth", names="torchvision")
    assert back.layer_params("bn_conv1")[2].item() == 1
    assert torch.equal(back.layer_params("bn_conv1")[0], state["bn1.running_mean"])


def test_layers_without_a_name_there(tmp_path):
    text = TEXT.replace("fc1000", "scores")
    net = small(tmp_path, text)
    with pytest.raises(WeightMismatchError, match=r"no name: layer 'scores' \(InnerProduct\)"):
        named_state(net, "torchvision")
    prototxt, weights = tmp_path / "net.prototxt", tmp_path / "a.caffemodel"
    out = tmp_path / "x.pth"
    net.save(weights)
    refused = run(prototxt, weights, "-o", out, "--names", "torchvision")
    assert refused.exit_code == 2
    assert "convert --lenient leaves them out" in refused.output
    assert not out.exists()
    lenient = run(prototxt, weights, "-o", out, "--names", "torchvision", "--lenient")
    assert lenient.exit_code == 0, lenient.output
    assert "left out, for it has no name there: layer 'scores'" in lenient.output
    back = run(prototxt, out, "-o", tmp_path / "b.caffemodel", "--names", "torchvision")
    assert back.exit_code == 2
    assert "missing: layer 'scores' (InnerProduct), for which 'torchvision'" in back.output
    back = run(prototxt, out, "-o", tmp_path / "b.caffemodel", "--lenient")
    assert "kept its filler: layer 'scores' (InnerProduct)" in back.output
    nothing = tmp_path / "nothing.json"
    nothing.write_text('{"rules": [{"layer": "x", "module": "y"}]}')
    with pytest.raises(WeightMismatchError, match="does not name every layer"):
        named_state(net, nothing, strict=False)


def test_two_layers_of_one_name_must_agree(tmp_path):
    twice = (
        TEXT.replace("fc1000", "conv1_res05")
        .replace("InnerProduct", "Convolution")
        .replace(
            "inner_product_param { num_output: 5",
            "convolution_param { num_output: 5 kernel_size: 2",
        )
    )
    with pytest.raises(WeightMismatchError, match=r"conv1.weight: layer 'conv1_res05' has other"):
        named_state(small(tmp_path, twice), "torchvision")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-o", "x.pth"], ".pth is a plain state dict: say whose names it has"),
        (["-o", "x.caffemodel", "--names", "isht7"], "needs -o with .pth, .pt, .safetensors"),
        (["-o", "x.onnx", "--names", "isht7"], "needs -o with .pth, .pt, .safetensors"),
        (["--emit-module", "x.py", "--names", "isht7"], "--names and --emit-module"),
        (["--pretrained", "x", "--names", "isht7"], "needs -o with .pth, .pt, .safetensors"),
        (
            ["-o", "x.pt", "--names", "isht7", "--dataset", "voc2012"],
            "with --names cannot store them",
        ),
        (["-o", "x.pth", "--names", "nobody"], "no names 'nobody'; known are isht7, kazuto1011"),
        (["-o", "x.pth", "--names", "none.json"], "none.json"),
    ],
)
def test_options_that_do_not_go_together(net, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    net.save("a.caffemodel")
    before = sorted(tmp_path.iterdir())
    result = run("net.prototxt", "a.caffemodel", *args)
    assert result.exit_code == 2
    assert words in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_names_are_for_state_dicts_only(net, tmp_path):
    net.save(tmp_path / "a.caffemodel")
    with pytest.raises(UsageError, match="the weights are a caffemodel file with Caffe's names"):
        cp.load(tmp_path / "net.prototxt", tmp_path / "a.caffemodel", names="isht7")


def test_a_map_of_the_users_own(net, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({
        "like": "torchvision", "prefix": "encoder.",
        "rules": [{"layer": "fc(?P<n>[0-9]+)", "types": ["InnerProduct"],
                   "module": "head{n-1}", "shape": [0, 4, 6, -1], "parameters": {"bias": "b"}}],
    }))  # fmt: skip
    state = named_state(net, path)
    assert state["encoder.head999.weight"].shape == (5, 4, 6, 6)
    assert state["encoder.head999.b"].shape == (5,)
    assert "encoder.bn1.running_var" in state
    before = bits(net)
    with torch.no_grad():
        net.layer_params("fc1000")[0].zero_()
    load_named_state(net, state, str(path))
    assert bits(net) == before
    child = tmp_path / "child.json"
    child.write_text('{"like": "mine.json", "prefix": ""}')
    assert "head999.b" in named_state(net, child)
    path.write_text(path.read_text().replace("[0, 4, 6, -1]", "[0, 4, 7, -1]"))
    with pytest.raises(WeightMismatchError, match=r"\(5, 144\) cannot have the shape \[0, 4, 7"):
        named_state(net, path)


RULE = {"layer": "(?P<a>x)", "module": "m"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "the map is not an object"),
        ({}, "it has no rules"),
        ({"rules": [], "other": 1}, "the map has the fields other"),
        ({"rules": [{"layer": "x"}]}, "field 'module' is missing"),
        ({"rules": [RULE | {"layer": "("}]}, "rule 1: layer is not a regular expression"),
        ({"rules": [RULE | {"module": "{b}"}]}, "rule 1: module has b; expected groups"),
        ({"rules": [RULE | {"module": "{a"}]}, "a brace without a group's name"),
        ({"rules": [RULE | {"module": "{a.__class__}"}]}, "a brace without a group's name"),
        ({"rules": [RULE | {"module": 3}]}, "rule 1: module is not a string"),
        ({"rules": [RULE, RULE | {"shape": [-1, -1]}]}, "rule 2: shape has more than one -1"),
        ({"rules": [RULE | {"shape": [-2]}]}, "expected whole numbers, 0 or -1"),
        ({"rules": [RULE | {"shape": [True]}]}, "expected whole numbers, 0 or -1"),
        ({"rules": [RULE | {"types": "x"}]}, "types is not a list"),
        ({"rules": [RULE | {"words": {"a": 1}}]}, "words is not an object"),
        ({"rules": [RULE | {"words": []}]}, "not a name map"),
        ({"rules": [RULE | {"parameters": {"a": 1}}]}, "parameters is not a string"),
        ({"like": "map.json"}, "more than 8 maps that are 'like' another"),
        ({"like": "none.json"}, "none.json"),
        ({"rules": 3}, "not a name map"),
    ],
)
def test_malformed_maps(tmp_path, values, words):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(values))
    with pytest.raises((FormatError, UsageError), match=words.replace("(", r"\(")) as caught:
        name_map(path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", known_name_maps())
def test_known_maps_name_no_layer_twice(name):
    """Every layer of ResNet-152 and VGG16 has a module of its own."""
    blocks = {2: 3, 3: 8, 4: 36, 5: 3}
    layers = [
        f"{kind}{stage}{'a' if block == 0 else f'b{block}'}_branch{branch}"
        for stage, count in blocks.items() for block in range(count)
        for branch in ("1", "2a", "2b", "2c") for kind in ("res", "bn")
    ]  # fmt: skip
    found = [name_map(name).module(layer, "Convolution")[0] for layer in layers]
    assert len(set(found)) == len(layers)
    assert name_map(name).module("res4f_branch2a", "Convolution") == name_map(name).module(
        "res4b5_branch2a", "Convolution"
    )
    assert name_map(name).module("unknown", "Convolution") is None
