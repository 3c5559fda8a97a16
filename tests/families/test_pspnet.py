"""PSPNet and ICNet: BN with running statistics, poolings of several sizes, Interp."""

from __future__ import annotations

import pytest
import torch

from caffe_port import load
from caffe_port.proto import parse_net
from tests.families.making import check_exports, converted, gradients, randomized, traced

RATES = "param { lr_mult: 1 decay_mult: 0 } " * 2 + "param { lr_mult: 0 decay_mult: 0 } " * 2
SLOPE = "slope_filler { type: 'constant' value: 1 } bias_filler { type: 'constant' value: 0 }"
BRANCH = "lr_mult: 1 decay_mult: 1"


def block(type, name, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    return f'layer {{ name: "{name}" type: "{type}" {bottoms} top: "{top}" {more} }}\n'


def conv_bn_relu(name, bottom, outputs, options, bn, relu=True):
    """A convolution without bias, its BN and ReLU in place, with the originals' names."""
    filler = 'weight_filler { type: "msra" } bias_term: false'
    text = block("Convolution", name, bottom, name, f"param {{ {BRANCH} }} convolution_param {{ "
                 f"num_output: {outputs} {options} {filler} }}")  # fmt: skip
    text += block("BN", f"{name}/bn", name, name, f"{RATES} bn_param {{ {SLOPE} {bn} }}")
    return text + block("ReLU", f"{name}/relu", name, name) if relu else text


def pspnet(bn="frozen: true momentum: 0.95"):
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 49 input_dim: 49\n'
    text += conv_bn_relu("conv1_1_3x3_s2", "data", 8, "pad: 1 kernel_size: 3 stride: 2", bn)
    text += block("Pooling", "pool1_3x3_s2", "conv1_1_3x3_s2", "pool1",
                  "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }")  # fmt: skip
    text += conv_bn_relu("conv5_3_3x3", "pool1", 8, "kernel_size: 3 pad: 2 dilation: 2", bn, False)
    text += block("Eltwise", "conv5_3", "pool1 conv5_3_3x3", "conv5_3",
                  "eltwise_param { operation: SUM }")  # fmt: skip
    text += block("ReLU", "conv5_3/relu", "conv5_3", "conv5_3")
    levels = []
    for bins, window in ((1, 13), (2, 7), (3, 5), (6, 3)):
        name = f"conv5_3_pool{bins}"
        stride = {1: 13, 2: 6, 3: 4, 6: 2}[bins]
        options = f"pool: AVE kernel_size: {window} stride: {stride}"
        text += block("Pooling", name, "conv5_3", name, f"pooling_param {{ {options} }}")
        text += conv_bn_relu(f"{name}_conv", name, 2, "kernel_size: 1 stride: 1 pad: 0", bn)
        text += block("Interp", f"{name}_interp", f"{name}_conv", f"{name}_interp",
                      "interp_param { height: 13 width: 13 }")  # fmt: skip
        levels.insert(0, f"{name}_interp")
    text += block("Concat", "conv5_3_concat", " ".join(["conv5_3", *levels]), "conv5_3_concat")
    text += conv_bn_relu("conv5_4", "conv5_3_concat", 8, "kernel_size: 3 stride: 1 pad: 1", bn)
    text += block("Dropout", "conv5_4/dropout", "conv5_4", "conv5_4",
                  "dropout_param { dropout_ratio: 0.1 }")  # fmt: skip
    text += block("Convolution", "conv6", "conv5_4", "conv6",
                  "convolution_param { num_output: 5 kernel_size: 1 stride: 1 }")  # fmt: skip
    return text + block("Interp", "conv6_interp", "conv6", "conv6_interp",
                        "interp_param { zoom_factor: 4 }")  # fmt: skip


def icnet():
    """Two of the three branches: one on the image at half its size, fused by a sum."""
    bn = "frozen: true"
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 65\n'
    text += block("Interp", "data_sub2", "data", "data_sub2", "interp_param { shrink_factor: 2 }")
    text += conv_bn_relu("conv1_1_3x3_s2", "data_sub2", 6, "pad: 1 kernel_size: 3 stride: 2", bn)
    text += block("Interp", "conv5_4_interp", "conv1_1_3x3_s2", "conv5_4_interp",
                  "interp_param { zoom_factor: 2 }")  # fmt: skip
    text += conv_bn_relu(
        "conv_sub4", "conv5_4_interp", 6, "pad: 2 kernel_size: 3 dilation: 2", bn, False
    )
    text += conv_bn_relu("conv1_sub1", "data", 6, "pad: 1 kernel_size: 3 stride: 2", bn, False)
    text += block("Eltwise", "sub12_sum", "conv_sub4 conv1_sub1", "sub12_sum",
                  "eltwise_param { operation: SUM }")  # fmt: skip
    text += block("ReLU", "sub12_sum/relu", "sub12_sum", "sub12_sum")
    text += block("Interp", "sub12_sum_interp", "sub12_sum", "sub12_sum_interp",
                  "interp_param { zoom_factor: 2 }")  # fmt: skip
    return text + block("Convolution", "conv6_cls", "sub12_sum_interp", "conv6_cls",
                        "convolution_param { num_output: 4 kernel_size: 1 }")  # fmt: skip


@pytest.mark.parametrize(("text", "top"), [(pspnet(), "conv6_interp"), (icnet(), "conv6_cls")])
def test_convert_run_export_and_trace(tmp_path, text, top):
    assert not parse_net(text).unknown
    net = converted(tmp_path, text)
    shape = net.spec.shapes["data"]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    scores = net({"data": x})[top]
    assert scores.shape[2:] == shape[2:]
    torch.testing.assert_close(
        net.optimized(engine="torch")({"data": x})[top], scores, rtol=1e-4, atol=1e-4
    )
    traced(net, top)
    check_exports(tmp_path, net)


@pytest.mark.parametrize("frozen", [True, False])
def test_training_learns_scale_and_shift_unless_frozen(tmp_path, frozen):
    path = tmp_path / "train.prototxt"
    text = pspnet(f"frozen: {str(frozen).lower()} momentum: 0.95")
    text += 'input: "label" input_dim: 1 input_dim: 1 input_dim: 49 input_dim: 49\n'
    path.write_text(text + block("SoftmaxWithLoss", "loss", "conv6_interp label", "loss"))
    net = randomized(load(path, phase="TRAIN"))
    before = net.module("conv5_4/bn").param("mean").clone()
    x = torch.randn(net.spec.shapes["data"], generator=torch.Generator().manual_seed(2))
    _, learned = gradients(net, {"data": x, "label": torch.zeros(1, 1, 49, 49)}, "loss")
    assert any(name.startswith("conv5_4/bn") for name in learned) != frozen
    assert torch.equal(net.module("conv5_4/bn").param("mean"), before) == frozen
