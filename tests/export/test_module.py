"""Emitted modules: bit for bit the Net's outputs, without caffe_port."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from caffe_port import NetSpec
from caffe_port.errors import LayerError, SideEffectWarning, UnsupportedLayerError, UsageError
from caffe_port.export import ExportWarning, emit_module, module_keys
from caffe_port.export.graph import make_graph
from caffe_port.export.module import module_text
from tests.export.making import (
    LAYERS,
    NETS,
    SNIPPETS,
    case_net,
    exportable,
    feed,
    imported,
    snippet_net,
    without_rules,
)
from tests.goldens_dir import dialect_of
from tests.layers.helpers import net_of


def emit(net, path, state=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)
        return emit_module(net, path, state)


def loaded(path, state):
    module = imported(path)
    module.load_state_dict(torch.load(state, weights_only=True), strict=True)
    return module.eval()


def assert_equal_outputs(net, module):
    graph = make_graph(net.spec)
    inputs = feed(net, graph.inputs)
    with torch.no_grad():
        wanted = net(inputs, keep=list(graph.outputs))
        found = module(*inputs.values())
    found = found if isinstance(found, dict) else {next(iter(graph.outputs)): found}
    assert found.keys() == graph.outputs.keys() != set()
    for blob, data in wanted.items():
        assert torch.equal(found[blob], data), blob


def assert_scripted_equal(net, module):
    """TorchScript compiles the module, and its first two runs, which may differ, are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
    for _ in range(2):
        assert_equal_outputs(net, scripted)


@pytest.mark.parametrize("folder", NETS, ids=lambda folder: folder.name)
def test_every_recorded_net_gives_equal_outputs(folder, tmp_path):
    net = case_net(folder)
    state = emit(net, tmp_path / "net.py")
    assert state == tmp_path / "net.state.pt"
    module = loaded(tmp_path / "net.py", state)
    assert_equal_outputs(net, module)
    assert_scripted_equal(net, module)


@pytest.mark.parametrize(
    "folder", [f for f in LAYERS if exportable(f)], ids=lambda folder: folder.name
)
def test_every_recorded_layer_with_a_rule_gives_equal_outputs(folder, tmp_path):
    net = case_net(folder)
    module = loaded(tmp_path / "op.py", emit(net, tmp_path / "op.py"))
    assert_equal_outputs(net, module)
    assert_scripted_equal(net, module)


@pytest.mark.parametrize("name", SNIPPETS)
def test_options_that_no_recording_has(name, tmp_path):
    net = snippet_net(name)
    module = loaded(tmp_path / "op.py", emit(net, tmp_path / "op.py"))
    assert_equal_outputs(net, module)
    assert_scripted_equal(net, module)


@pytest.mark.parametrize(
    "folder", [f for f in LAYERS if not exportable(f)], ids=lambda folder: folder.name
)
def test_every_other_recorded_layer_is_refused_and_nothing_written(folder, tmp_path):
    with pytest.raises((LayerError, UsageError)):
        emit(case_net(folder), tmp_path / "op.py")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", NETS, ids=lambda folder: folder.name)
def test_every_key_leads_to_its_layer(folder, tmp_path):
    net = case_net(folder)
    tensors = torch.load(emit(net, tmp_path / "net.py"), weights_only=True)
    keys = module_keys(net)
    assert list(keys) == list(tensors)
    for key, (layer, index) in keys.items():
        blob = net.layer_params(layer)[index]
        assert torch.equal(tensors[key].reshape(-1), blob.reshape(-1)), key


def test_other_sizes_than_the_prototxts_give_equal_outputs_too(tmp_path):
    folder = next(f for f in NETS if "v1_hole" in f.name)
    net = case_net(folder)
    module = loaded(tmp_path / "net.py", emit(net, tmp_path / "net.py"))
    x = torch.randn(1, 3, 83, 101)
    with torch.no_grad():
        (wanted,) = net({"data": x}).values()
        assert torch.equal(module(x), wanted)


POOLINGS = [
    f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} {rounding}"
    for method in ("MAX", "AVE")
    for kernel, stride, pad in ((3, 2, 0), (3, 2, 1), (2, 2, 1), (5, 3, 4), (3, 1, 2), (1, 2, 0))
    for rounding in ("", "round_mode: FLOOR")
    if (method, stride, rounding) != ("AVE", 2, "") or kernel > 1  # refused: Caffe divides by 0
]


@pytest.mark.parametrize("options", POOLINGS)
@pytest.mark.parametrize("size", [(9, 9), (7, 10)])
def test_pooling_has_caffes_windows(options, size, tmp_path):
    text = f'layer {{ name: "p" type: "Pooling" bottom: "b0" top: "y" pooling_param {{{options}}}}}'
    net = net_of(text, (2, 3, *size))
    assert_equal_outputs(net, loaded(tmp_path / "p.py", emit(net, tmp_path / "p.py")))


def test_the_module_runs_where_caffe_port_cannot_be_imported(tmp_path):
    net = case_net(next(f for f in NETS if "v1_hole" in f.name))
    emit(net, tmp_path / "largefov.py")
    x = torch.randn(1, 3, 65, 65)
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys, numpy, torch, largefov\n"
        "net = [v for v in vars(largefov).values() if isinstance(v, type)"
        " and v.__module__ == 'largefov'][-1]()\n"
        "net.load_state_dict(torch.load('largefov.state.pt', weights_only=True))\n"
        "y = net.eval()(torch.from_numpy(numpy.load('x.npy')))\n"
        "numpy.save('y.npy', y.detach().numpy())\n"
        "assert 'caffe_port' not in sys.modules\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        assert not name.startswith('caffe_port')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import importlib; importlib.reload(largefov)\n"
    )
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    with torch.no_grad():
        (wanted,) = net({"data": x}).values()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted.numpy(), rtol=0, atol=1e-5)


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed")
def test_emitted_code_is_clean(tmp_path):
    for folder in [*NETS, *(f for f in LAYERS if exportable(f))]:
        options = {"phase": "TEST", "dialect": dialect_of(folder)}
        graph = make_graph(NetSpec.read(folder / "net.prototxt", **options))
        text = module_text(graph, folder.name, "net.state.pt").text
        (tmp_path / f"{folder.name}.py").write_text(text)
    for arguments in (["check"], ["format", "--check", "--line-length", "100"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            "--isolated",
            "--no-cache",
            str(tmp_path),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


SHARING = """
layer { name: "a" type: "Convolution" bottom: "b0" top: "ya" param { name: "w" } param { name: "c" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" } } }
layer { name: "b" type: "Convolution" bottom: "ya" top: "yb" param { name: "w" } param { name: "c" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
"""


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_shared_parameters_stay_shared(suffix, tmp_path):
    net = net_of(SHARING, (1, 3, 5, 5))
    state = emit(net, tmp_path / "s.py", tmp_path / f"weights{suffix}")
    module = imported(tmp_path / "s.py")
    if suffix == ".pt":
        tensors = torch.load(state, weights_only=True)
    else:
        from safetensors.torch import load_file

        tensors = load_file(state)
    assert sorted(tensors) == ["a.bias", "a.weight"]
    module.load_state_dict(tensors, strict=True)
    assert '#   "b" is self.a\n' in (tmp_path / "s.py").read_text()
    assert len(list(module.parameters())) == 2
    assert_equal_outputs(net, module)


def test_layers_that_share_their_parameters_keep_states_of_their_own(tmp_path):
    share = 'param { name: "x" } param { name: "b" } param { name: "h" }'
    text = "".join(
        f'layer {{ name: "{name}" type: "LSTM" bottom: "{bottom}" bottom: "b1" top: "{name}" '
        f"{share} recurrent_param {{ num_output: 3 weight_filler {{ type: 'gaussian' }} }} }}"
        for name, bottom in (("one", "b0"), ("two", "one"))
    )
    net = net_of(text, (2, 2, 3), (2, 2))
    module = loaded(tmp_path / "s.py", emit(net, tmp_path / "s.py"))
    for _ in range(3):
        assert_equal_outputs(net, module)
    assert module.one.W_hc is module.two.W_hc


def test_the_same_net_gives_the_same_bytes(tmp_path):
    net = case_net(next(f for f in NETS if "v1_hole" in f.name))
    for name in ("one", "two"):
        for suffix in (".pt", ".safetensors"):
            emit(net, tmp_path / name / "net.py", tmp_path / name / f"net{suffix}")
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [p.name for p in one] == [p.name for p in two] == ["net.pt", "net.py", "net.safetensors"]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


HOSTILE = r"""name: "x\"\"\"\nimport os\n"
layer { name: "conv1/7x7 \"\"\"\nraise SystemExit" type: "Convolution" bottom: "b0"
  top: "self\nraise SystemExit" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "class" type: "InnerProduct" bottom: "self\nraise SystemExit" top: "F"
  inner_product_param { num_output: 2 } }
layer { name: "forward" type: "Convolution" bottom: "b0" top: "torch\"; raise SystemExit"
  convolution_param { num_output: 2 kernel_size: 1 } }
"""


def test_names_cannot_become_code(tmp_path):
    net = net_of(HOSTILE, (1, 2, 3, 3))
    module = loaded(tmp_path / "h.py", emit(net, tmp_path / "h.py"))
    assert_equal_outputs(net, module)
    text = (tmp_path / "h.py").read_text()
    assert '#   "class" is self.class_2' in text
    assert '#   "forward" is self.forward_2' in text
    assert "class_2.weight" in module.state_dict()


def test_names_equal_after_cleaning_stay_distinct(tmp_path):
    text = "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "b0" top: "{name}" '
        "convolution_param { num_output: 2 kernel_size: 1 } }"
        for name in ("fc8-voc", "fc8_voc", "8")
    )
    net = net_of(text, (1, 2, 3, 3))
    module = loaded(tmp_path / "n.py", emit(net, tmp_path / "n.py"))
    assert_equal_outputs(net, module)
    assert {key.split(".")[0] for key in module.state_dict()} == {
        "fc8_voc", "fc8_voc_2", "layer8",
    }  # fmt: skip


def test_a_copy_keeps_its_value_when_the_other_is_written_in_place(tmp_path):
    net = net_of(
        'layer { name: "s" type: "Sigmoid" bottom: "b0" top: "s" }'
        'layer { name: "c" type: "Split" bottom: "s" top: "one" top: "two" }'
        'layer { name: "r" type: "Power" bottom: "one" top: "one" power_param { shift: -0.5 } }'
        'layer { name: "q" type: "Power" bottom: "one" top: "one" power_param { scale: 3 } }'
        'layer { name: "e" type: "Eltwise" bottom: "one" bottom: "two" top: "e" }',
        (2, 3),
    )
    with pytest.warns(SideEffectWarning, match="overwrites blob 'one'"):
        assert_equal_outputs(net, loaded(tmp_path / "v.py", emit(net, tmp_path / "v.py")))


def test_a_type_without_a_rule_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        UnsupportedLayerError, match=r"'some0' .UniqueLabel.: .*PyTorch module.*Convert"
    ):
        emit_module(without_rules(1), tmp_path / "x.py")
    with pytest.raises(UnsupportedLayerError, match=r"All that cannot: UniqueLabel \(2\)"):
        emit_module(without_rules(2), tmp_path / "x.py")


def test_statistics_of_the_batch_are_refused(tmp_path):
    net = net_of(
        'layer { name: "bn" type: "BatchNorm" bottom: "b0" top: "y" '
        "batch_norm_param { use_global_stats: false } }",
        (2, 2, 5, 5),
    )
    with pytest.raises(LayerError, match=r"'bn' .*use_global_stats: false"):
        emit_module(net, tmp_path / "x.py")


@pytest.mark.parametrize(("module", "state"), [("net.txt", None), ("net.py", "net.onnx")])
def test_unknown_suffixes_are_refused(module, state, tmp_path):
    net = net_of('layer { name: "r" type: "ReLU" bottom: "b0" top: "y" }', (1, 2))
    with pytest.raises(UsageError, match="written"):
        emit_module(net, tmp_path / module, state)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["scale", "none", "tensor", "F", "BatchNorm"])
def test_a_nets_name_is_never_that_of_something_else(name, tmp_path):
    layer = 'name: "s" type: "Scale" bottom: "b0" top: "y" scale_param { filler { value: 2 } }'
    net = net_of(f'name: "{name}" layer {{ {layer} }}', (1, 3))
    assert_equal_outputs(net, loaded(tmp_path / "net.py", emit(net, tmp_path / "net.py")))
