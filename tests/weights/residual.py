"""Prototxt of ResNet-101 and VGG16 at any width, with random weights of a trained net's size."""

from __future__ import annotations

import re
from functools import cache

import torch

from caffe_port import Net, NetSpec
from caffe_port.proto import parse_net
from tests.goldens_dir import ROOT

DEEPLAB = ROOT / "prototxt" / "deeplab_v2_resnet101_msc_aspp" / "deploy.prototxt"
_BLOCKS = {
    2: ["a", "b", "c"],
    3: ["a", *(f"b{i}" for i in range(1, 4))],
    4: ["a", *(f"b{i}" for i in range(1, 23))],
    5: ["a", "b", "c"],
}


def deeplab_text(width=64, labels=21, size=65):
    """DeepLab v2's ResNet-101 at three scales."""
    text = DEEPLAB.read_text().replace("${EXP}", "voc12").replace("${NET_ID}", "resnet101")
    text = text.replace("513", str(size)).replace("${NUM_LABELS}", "0")
    text = re.sub(r"(num_output: )(\d+)", lambda m: f"{m[1]}{int(m[2]) * width // 64}", text)
    return text.replace("num_output: 0", f"num_output: {labels}")


def _unit(name, bottom, outputs, kernel=1, stride=1, dilation=1):
    rest = f"_{name}" if name == "conv1" else name.removeprefix("res")
    pad = dilation * (kernel - 1) // 2
    return f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} stride: {stride}
    dilation: {dilation} bias_term: false }} }}
layer {{ name: "bn{rest}" type: "BatchNorm" bottom: "{name}" top: "{name}"
  batch_norm_param {{ use_global_stats: true }} }}
layer {{ name: "scale{rest}" type: "Scale" bottom: "{name}" top: "{name}"
  scale_param {{ bias_term: true }} }}"""


def _relu(blob):
    return f'\nlayer {{ name: "{blob}_relu" type: "ReLU" bottom: "{blob}" top: "{blob}" }}'


def resnet_text(
    width=64, classes=1000, size=64, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), pool_pad=0
):
    """ResNet-101 of KaimingHe/deep-residual-networks; 0 classes end it at res5c."""
    text = f'name: "ResNet-101" input: "data" input_shape {{ dim: [1, 3, {size}, {size}] }}'
    text += _unit("conv1", "data", width, 7, 2) + _relu("conv1")
    text += f"""
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param {{ pool: MAX kernel_size: 3 stride: 2 pad: {pool_pad} }} }}"""
    bottom = "pool1"
    for i, (stage, blocks) in enumerate(_BLOCKS.items()):
        middle = width * 2**i
        for block in blocks:
            name = f"res{stage}{block}"
            stride, past = (strides[i] if block == "a" else 1), bottom
            if block == "a":
                past = f"{name}_branch1"
                text += _unit(past, bottom, 4 * middle, stride=stride)
            a, b, c = (f"{name}_branch2{part}" for part in "abc")
            text += _unit(a, bottom, middle, stride=stride) + _relu(a)
            text += _unit(b, a, middle, 3, dilation=dilations[i]) + _relu(b)
            text += _unit(c, b, 4 * middle)
            text += f"""
layer {{ name: "{name}" type: "Eltwise" bottom: "{past}" bottom: "{c}" top: "{name}" }}"""
            text += _relu(name)
            bottom = name
    if classes:
        text += f"""
layer {{ name: "pool5" type: "Pooling" bottom: "res5c" top: "pool5"
  pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "fc1000" type: "InnerProduct" bottom: "pool5" top: "fc1000"
  inner_product_param {{ num_output: {classes} }} }}"""
    return text


def vgg_text(width=64, hidden=4096, classes=1000):
    """VGG_ILSVRC_16_layers."""
    text = 'name: "VGG16" input: "data" input_shape { dim: [1, 3, 224, 224] }'
    bottom = "data"
    for block, (count, factor) in enumerate(((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)), 1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            text += f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ num_output: {width * factor} kernel_size: 3 pad: 1 }} }}"""
            text += _relu(name)
            bottom = name
        text += f"""
layer {{ name: "pool{block}" type: "Pooling" bottom: "{bottom}" top: "pool{block}"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}"""
        bottom = f"pool{block}"
    for name, outputs in (("fc6", hidden), ("fc7", hidden), ("fc8", classes)):
        text += f"""
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"
  inner_product_param {{ num_output: {outputs} }} }}"""
        text += _relu(name) if name != "fc8" else ""
        bottom = name
    return text


@cache
def _spec(text):
    return NetSpec.build(parse_net(text).message, text=text)


def random_net(text, seed=0, factor=999.98):
    """A net whose activations stay of one size; BatchNorm's sums have that factor."""
    net = Net(_spec(text), fill=False)
    fill_at_random(net, seed, factor)
    return net


def fill_at_random(net, seed=0, factor=999.98):
    """Gives the net the weights of ``random_net``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.spec.layers:
            for param, values in zip(layer.params, net.layer_params(layer.name), strict=True):
                if param.owner is None:
                    _fill(layer.type, param.name, values, factor, generator)


def _fill(type, name, values, factor, generator):
    size = factor if factor > 0 else 1.0  # of the sums
    if type == "BatchNorm":
        if name == "factor":
            values.fill_(factor)
        elif name == "mean":
            values.normal_(0, 0.1 * size, generator=generator)
        else:
            values.uniform_(0.5 * size, 1.5 * size, generator=generator)
    elif type == "Scale" and name == "weight":
        values.uniform_(0.3, 0.9, generator=generator)
    elif name == "bias":
        values.normal_(0, 0.1, generator=generator)
    else:
        fan_in = values[0].numel()
        values.uniform_(-((3 / fan_in) ** 0.5), (3 / fan_in) ** 0.5, generator=generator)
