"""Emitted modules: repeated blocks are classes, shared parameters are stored once."""

from __future__ import annotations

import random
import re

import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.export import module_keys
from tests.export.test_module import assert_equal_outputs, assert_scripted_equal, emit, loaded
from tests.layers.helpers import net_of

FILLER = 'weight_filler { type: "gaussian" std: 0.3 }'


def conv(name, bottom, top, outputs, *, kernel=1, suffix="", shared=()):
    """A convolution; ``shared`` are the names of its parameters."""
    params = "".join(f' param {{ name: "{param}" }}' for param in shared)
    return (
        f'layer {{ name: "{name}{suffix}" type: "Convolution" bottom: "{bottom}{suffix}" '
        f'top: "{top}{suffix}"{params} convolution_param {{ num_output: {outputs} '
        f"kernel_size: {kernel} pad: {kernel // 2} {FILLER} }} }}"
    )


def bottleneck(tag, bottom, width, outputs, suffix="", shared=False):
    """conv, ReLU, conv, sum, ReLU, as in ResNet."""
    names = [(f"{c}{tag}_w", f"{c}{tag}_b") if shared else () for c in "ab"]
    b, s = f"res{tag}", suffix
    return "".join((
        conv(f"{b}_a", bottom, f"{b}_a", width, suffix=s, shared=names[0]),
        f'layer {{ name: "{b}_a_relu{s}" type: "ReLU" bottom: "{b}_a{s}" top: "{b}_a{s}" }}',
        conv(f"{b}_b", f"{b}_a", f"{b}_b", outputs, kernel=3, suffix=s, shared=names[1]),
        f'layer {{ name: "{b}{s}" type: "Eltwise" bottom: "{bottom}{s}" bottom: "{b}_b{s}" '
        f'top: "{b}{s}" }}',
        f'layer {{ name: "{b}_relu{s}" type: "ReLU" bottom: "{b}{s}" top: "{b}{s}" }}',
    ))  # fmt: skip


def resnet(suffix="", shared=False):
    first = conv("conv1", "b0" if not suffix else "small", "conv1", 4)
    if suffix:
        first = first.replace('"conv1"', f'"conv1{suffix}"')
    if shared:
        first = first.replace(
            "convolution_param", 'param { name: "w" } param { name: "b" } convolution_param'
        )
    blocks = [("2a", "conv1", 2), ("2b", "res2a", 2), ("2c", "res2b", 2), ("3b1", "res2c", 3)]
    return first + "".join(bottleneck(t, b, width, 4, suffix, shared) for t, b, width in blocks)


def checked(net, tmp_path):
    """The module's source and keys; its outputs and its TorchScript's are the net's."""
    state = emit(net, tmp_path / "net.py", tmp_path / "net.safetensors")
    from safetensors.torch import load_file, save_file

    tensors = load_file(state)
    assert sorted(module_keys(net)) == sorted(tensors)
    for key, (layer, index) in module_keys(net).items():
        assert torch.equal(tensors[key].flatten(), net.layer_params(layer)[index].flatten())
    torch.save(tensors, tmp_path / "net.pt")
    module = loaded(tmp_path / "net.py", tmp_path / "net.pt")
    assert sorted(module.state_dict()) == sorted(tensors)
    assert_equal_outputs(net, module)
    assert_scripted_equal(net, module)
    save_file({k: v.clone() for k, v in module.state_dict().items()}, tmp_path / "again")
    return (tmp_path / "net.py").read_text(), sorted(tensors)


def test_blocks_become_one_class_and_runs_of_them_a_sequential(tmp_path):
    text, keys = checked(net_of(resnet(), (1, 3, 6, 5)), tmp_path)
    assert re.findall(r"^class (\w+)", text, re.M) == ["Block", "Net"]
    assert "self.res = nn.Sequential(Block(2), Block(2), Block(2), Block(3))" in text
    assert keys[:2] == ["conv1.bias", "conv1.weight"]
    assert keys[2:6] == ["res.0.res_a.bias", "res.0.res_a.weight", "res.0.res_b.bias",
                         "res.0.res_b.weight"]  # fmt: skip
    assert "# layers res*_a\n" in text
    assert "#   self.res: 2a, 2b, 2c, 3b1\n" in text
    assert len(keys) == 18


def test_equal_blocks_are_a_loop(tmp_path):
    text = conv("conv1", "b0", "conv1", 4)
    for tag, bottom in (("4b1", "conv1"), ("4b2", "res4b1"), ("4b10", "res4b2")):
        text += bottleneck(tag, bottom, 2, 4)
    text, keys = checked(net_of(text, (1, 3, 6, 5)), tmp_path)
    assert "self.res4b = nn.Sequential(*(Block() for _ in range(3)))" in text
    assert "res4b.2.res4b_a.weight" in keys


def test_layers_that_share_their_parameters_are_one_method_and_stored_once(tmp_path):
    small = (
        'layer { name: "small" type: "Interp" bottom: "b0" top: "small" '
        "interp_param { shrink_factor: 2 } }"
    )
    joined = (
        'layer { name: "up" type: "Interp" bottom: "res3b1_s" top: "up" '
        "interp_param { zoom_factor: 2 } }"
        'layer { name: "sum" type: "Eltwise" bottom: "res3b1" bottom: "up" top: "sum" }'
    )
    body = resnet(shared=True) + resnet("_s", shared=True).replace('"small_s"', '"small"')
    net = net_of(small + body + joined, (1, 3, 9, 9))
    text, keys = checked(net, tmp_path)
    assert text.count("nn.Conv2d") == 3  # conv1 and those of the block
    assert re.findall(r"= (self\.branch\(\w+\))", text) == ["self.branch(b0)", "self.branch(small)"]
    assert len(keys) == 18
    assert not [key for key in keys if "_s" in key]


def test_a_block_whose_inside_is_an_output_stays_lines(tmp_path):
    text = conv("conv1", "b0", "conv1", 4)
    for tag, bottom in (("2a", "conv1"), ("2b", "res2a"), ("2c", "res2b")):
        text += bottleneck(tag, bottom, 2, 4)
    text += 'layer { name: "tap" type: "Sigmoid" bottom: "res2b_b" top: "tap" }'
    text, keys = checked(net_of(text, (1, 3, 6, 5)), tmp_path)
    assert text.count("Block()") == 2
    assert {"res2a.res2_a.weight", "res2b_a.weight", "res2c.res2_a.weight"} <= set(keys)


def test_an_output_between_blocks_ends_a_run(tmp_path):
    text = conv("conv1", "b0", "conv1", 4)
    for tag, bottom in (("2a", "conv1"), ("2b", "res2a"), ("2c", "res2b")):
        text += bottleneck(tag, bottom, 2, 4)
    text += 'layer { name: "tap" type: "Sigmoid" bottom: "res2b" top: "tap" }'
    text, _ = checked(net_of(text, (1, 3, 6, 5)), tmp_path)
    assert "self.res2 = nn.Sequential(*(Block() for _ in range(2)))" in text
    assert "self.res2c = Block()" in text


def test_other_options_with_the_same_parameters_share_them_under_two_keys(tmp_path):
    text = conv("one", "b0", "one", 3, kernel=3, shared=("w", "b"))
    text += conv("two", "b0", "two", 3, kernel=3, shared=("w", "b")).replace("pad: 1", "pad: 2")
    text += conv("three", "b0", "three", 3, kernel=3, shared=("w",))
    net = net_of(text, (1, 2, 5, 5))
    text, keys = checked(net, tmp_path)
    assert "self.two.weight = self.one.weight" in text
    assert "self.three.weight = self.one.weight" in text
    assert "self.three.bias = self.one.bias" not in text
    assert len(keys) == 6


def test_a_parameter_shared_under_another_shape_is_refused(tmp_path):
    share = 'param { name: "w" share_mode: PERMISSIVE } convolution_param { bias_term: false '
    text = "".join(
        conv(name, "b0", name, outputs, kernel=kernel).replace("convolution_param { ", share)
        for name, outputs, kernel in (("one", 4, 1), ("two", 1, 2))
    )
    with pytest.raises(LayerError, match=r"'two' .*shape \(1, 2, 2, 2\) is 'one.weight' of shape"):
        emit(net_of(text, (1, 2, 5, 5)), tmp_path / "net.py")


def random_net(seed):
    """Convolutions, neurons and sums over random earlier blobs, some with shared parameters."""
    draw = random.Random(seed)
    text, blobs = "", ["b0"]
    unit = [draw.randrange(4) for _ in range(draw.randrange(2, 7))]
    for i in range(draw.randrange(2, 6)):
        start = blobs[-1]
        for j, kind in enumerate(unit):
            name, bottom = f"u{i}_{j}", draw.choice([blobs[-1], blobs[-1], start, blobs[-1]])
            shared = (f"w{draw.choice([j, i * 10 + j])}", f"b{j}") if seed % 2 else ()
            if kind < 2:
                text += conv(name, bottom, name, 3, kernel=1 + 2 * kind, shared=shared)
                if shared:  # of both kernel sizes
                    text = text.replace(f'"w{shared[0][1:]}"', f'"k{kind}{shared[0]}"')
            elif kind == 2:
                text += (
                    f'layer {{ name: "r{i}_{j}" type: "ReLU" bottom: "{bottom}" top: "{name}" }}'
                )
            else:
                text += (
                    f'layer {{ name: "{name}" type: "Eltwise" bottom: "{bottom}" bottom: "{start}" '
                    f'top: "{name}" }}'
                )
            blobs.append(name)
    return net_of(text, (1, 3, 4, 4))


# seeds of nets in which a class or a method is found
@pytest.mark.parametrize("seed", [25, 26, 27, 41, 44, 48, 56, 61, 71, 95, 115, 119])
def test_random_nets(seed, tmp_path):
    net = random_net(seed)
    assert_equal_outputs(net, loaded(tmp_path / "n.py", emit(net, tmp_path / "n.py")))
    text = (tmp_path / "n.py").read_text()
    assert "class Block" in text or "def branch" in text
