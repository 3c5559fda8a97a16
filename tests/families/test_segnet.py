"""SegNet, Bayesian SegNet, ENet and DeconvNet: encoders and decoders joined by pooling masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port import load
from caffe_port.proto import parse_net
from tests.families.making import check_exports, converted, gradients, randomized, traced

HEIGHT, WIDTH, CLASSES = 22, 26, 5
DATA = f'input: "data" input_dim: 1 input_dim: 3 input_dim: {HEIGHT} input_dim: {WIDTH}\n'
FILLERS = (
    'scale_filler { type: "constant" value: 1 } shift_filler { type: "constant" value: 0.001 }'
)
RATES = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"


def block(type, name, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    tops = " ".join(f'top: "{blob}"' for blob in top.split())
    return f'layer {{ {bottoms} {tops} name: "{name}" type: "{type}" {more} }}\n'


@pytest.fixture
def camvid(tmp_path):
    """A list of images and label maps, as SegNet's train.txt."""
    rng = np.random.default_rng(3)
    for i in range(2):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        labels = rng.integers(0, CLASSES, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / f"{i}_truth.png")
    lines = [f"{tmp_path}/{i}.png {tmp_path}/{i}_truth.png\n" for i in range(2)]
    (tmp_path / "train.txt").write_text("".join(lines))
    return tmp_path / "train.txt"


def dense_image_data(source, more=""):
    return block(
        "DenseImageData", "data", "", "data label",
        f'dense_image_data_param {{ source: "{source}"\t# change this\n batch_size: 2 '
        f"shuffle: true {more} }}",
    )  # fmt: skip


def conv_bn_relu(name, bottom, outputs, mode):
    fillers = 'weight_filler { type: "msra" } bias_filler { type: "constant" }'
    text = block("Convolution", name, bottom, name, f"{RATES} convolution_param {{ {fillers} "
                 f"num_output: {outputs} pad: 1 kernel_size: 3 }}")  # fmt: skip
    scale = (
        'scale_filler { type: "constant" value: 1 } shift_filler { type: "constant" value: 0.001 }'
    )
    text += block("BN", f"{name}_bn", name, name, f"{RATES} bn_param {{ {scale} {mode} }}")
    return text + block("ReLU", f"relu{name.removeprefix('conv')}", name, name)


def segnet(data, mode="", dropout=""):
    """Two poolings; the size of the second upsampling is given, as SegNet's are."""
    text = data + conv_bn_relu("conv1_1", "data", 6, mode)
    mask = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
    text += block("Pooling", "pool1", "conv1_1", "pool1 pool1_mask", mask)
    text += conv_bn_relu("conv2_1", "pool1", 6, mode)
    text += block("Pooling", "pool2", "conv2_1", "pool2 pool2_mask", mask)
    if dropout:
        text += block("Dropout", "encdrop2", "pool2", "pool2", f"dropout_param {{ {dropout} }}")
    sized = "upsample_param { scale: 2 upsample_w: 13 upsample_h: 11 }"
    text += block("Upsample", "upsample2", "pool2 pool2_mask", "pool2_D", sized)
    text += conv_bn_relu("conv2_1_D", "pool2_D", 6, mode)
    text += block("Upsample", "upsample1", "conv2_1_D pool1_mask", "pool1_D",
                  "upsample_param { scale: 2 }")  # fmt: skip
    return text + block("Convolution", "conv1_1_D", "pool1_D", "conv1_1_D",
                        f"{RATES} convolution_param {{ num_output: {CLASSES} pad: 1 "
                        "kernel_size: 3 }")  # fmt: skip


WEIGHTED = block(
    "SoftmaxWithLoss", "loss", "conv1_1_D label", "loss",
    "softmax_param {engine: CAFFE} loss_param: { weight_by_label_freqs: true ignore_label: 11 "
    "class_weighting: 0.2595 class_weighting: 0.1826 class_weighting: 4.5640 "
    "class_weighting: 0.1417 class_weighting: 0.9051 }",
) + block("Accuracy", "accuracy", "conv1_1_D label", "accuracy per_class_accuracy")  # fmt: skip


def test_segnet_is_converted_run_exported_and_traced(tmp_path):
    text = segnet(DATA, "bn_mode: INFERENCE") + block("Softmax", "prob", "conv1_1_D", "prob",
                                                      "softmax_param {engine: CAFFE}")  # fmt: skip
    assert not parse_net(text).unknown
    net = converted(tmp_path, text)
    x = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    blobs = net({"data": x}, keep="all")
    assert blobs["prob"].shape == (1, CLASSES, HEIGHT, WIDTH)
    kept = blobs["pool1_D"] != 0  # at most one value in each window of 2 x 2
    assert torch.nn.functional.avg_pool2d(kept.float(), 2, divisor_override=1).max() == 1
    torch.testing.assert_close(net.optimized()({"data": x})["prob"], blobs["prob"])
    points = traced(net, "conv1_1_D")
    assert any(len(points[label]["conv1_1"]) for label in points)
    check_exports(tmp_path, net)


def test_segnet_trains_on_its_list_with_its_weighted_loss(tmp_path, camvid):
    path = tmp_path / "train.prototxt"
    path.write_text(segnet(dense_image_data(camvid)) + WEIGHTED)
    net = randomized(load(path, phase="TRAIN"))
    loss, learned = gradients(net, {}, "loss")
    assert loss > 0
    assert set(learned) >= {"conv1_1.weight", "conv1_1_bn.scale", "conv1_1_D.bias"}
    tops = net({}, keep=["accuracy", "per_class_accuracy"])
    assert tops["per_class_accuracy"].shape == (CLASSES,)


def test_bayesian_segnet_samples_in_test_too(tmp_path):
    text = segnet(DATA, "bn_mode: INFERENCE", "dropout_ratio: 0.5 sample_weights_test: true")
    net = converted(tmp_path, text)
    x = torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    draws = [net({"data": x})["conv1_1_D"] for _ in range(2)]
    assert not torch.equal(*draws)
    plain = converted(tmp_path, segnet(DATA, "bn_mode: INFERENCE", "dropout_ratio: 0.5"))
    assert torch.equal(*[plain({"data": x})["conv1_1_D"] for _ in range(2)])


def enet(data, mode):
    """ENet's initial block, a downsampling with a mask, a bottleneck and the two ways back."""
    scale = (
        'scale_filler { type: "constant" value: 1 } shift_filler { type: "constant" value: 0.001 }'
    )
    bn = f"{RATES} bn_param {{ {scale} bn_mode: {mode} }}"
    conv = 'num_output: %d bias_term: %s kernel_size: %d stride: %d weight_filler { type: "msra" }'
    text = data
    text += block("Convolution", "conv0_1", "data", "conv0_1",
                  f"convolution_param {{ {conv % (5, 'true', 3, 2)} pad: 1 }}")  # fmt: skip
    text += block("Pooling", "pool0_1", "data", "pool0_1",
                  "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")  # fmt: skip
    text += block("Concat", "concat0_1", "conv0_1 pool0_1", "concat0_1", "concat_param { axis: 1 }")
    text += block("BN", "bn0_1", "concat0_1", "bn0_1", bn)
    text += block("PReLU", "prelu0_1", "bn0_1", "prelu0_1")
    text += block("Pooling", "pool1_0_4", "prelu0_1", "pool1_0_4 pool1_0_4_mask",
                  "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")  # fmt: skip
    text += block("Convolution", "conv1_1_1", "pool1_0_4", "conv1_1_1", "convolution_param { "
                  f"{conv % (8, 'false', 3, 1)} pad: 2 dilation: 2 }}")  # fmt: skip
    text += block("BN", "bn1_1_1", "conv1_1_1", "bn1_1_1", bn)
    text += block("Eltwise", "eltwise1_1_4", "bn1_1_1 pool1_0_4", "eltwise1_1_4")
    text += block("PReLU", "prelu1_1_4", "eltwise1_1_4", "prelu1_1_4")
    text += block("Upsample", "upsample4_0_4", "prelu1_1_4 pool1_0_4_mask", "upsample4_0_4",
                  "upsample_param { upsample_h: 11 upsample_w: 13 }")  # fmt: skip
    return text + block("Deconvolution", "deconv6_0_0", "upsample4_0_4", "deconv6_0_0",
                        f"convolution_param {{ {conv % (CLASSES, 'true', 2, 2)} }}")  # fmt: skip


def test_enet_is_converted_run_exported_and_traced(tmp_path):
    net = converted(tmp_path, enet(DATA, "INFERENCE"))
    assert net.spec.shapes["deconv6_0_0"] == (1, CLASSES, HEIGHT, WIDTH)
    traced(net, "deconv6_0_0")
    check_exports(tmp_path, net)


def test_enet_trains_its_encoder_on_smaller_labels(tmp_path, camvid):
    more = f"new_height: {HEIGHT} new_width: {WIDTH} label_divide_factor: 2"
    text = enet(dense_image_data(camvid, more), "LEARN").split('layer { bottom: "prelu1_1_4"')[0]
    text += block("Convolution", "conv3", "prelu0_1", "conv3",
                  f"convolution_param {{ num_output: {CLASSES} kernel_size: 1 }}")  # fmt: skip
    text += block("SoftmaxWithLoss", "loss", "conv3 label", "loss", "loss_param { "
                  "weight_by_label_freqs: false ignore_label: 255 }")  # fmt: skip
    path = tmp_path / "train.prototxt"
    path.write_text(text)
    net = randomized(load(path, phase="TRAIN"))
    assert net.spec.shapes["label"] == (2, 1, HEIGHT // 2, WIDTH // 2)
    net({}, keep=["loss"])["loss"].backward()
    assert net.module("conv0_1").param("weight").grad.abs().max() > 0


def deconvnet(mode):
    """V1 text: two poolings with masks, BN in place, UNPOOLING and DECONVOLUTION."""

    def v1(type, name, bottom, top, more=""):
        text = block(type, name, bottom, top, more)
        return text.replace("layer {", "layers {").replace(f'type: "{type}"', f"type: {type}")

    fillers = (
        "scale_filler { type: 'constant' value: 1 } shift_filler { type: 'constant' value: 0.001 }"
    )
    rates = "blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0"
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16\n'

    def conv_bn_relu(name, bottom, kind="CONVOLUTION"):
        options = "num_output:6\tpad:1\tkernel_size: 3"
        made = v1(kind, name, bottom, name, f"{rates} convolution_param {{ {options} }}")
        made += v1("BN", f"bn{name}", name, name, f"{rates} bn_param {{ {fillers} {mode} }}")
        return made + v1("RELU", f"relu{name}", name, name)

    pool = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
    text += conv_bn_relu("conv1_1", "data") + v1("POOLING", "pool1", "conv1_1",
                                                 "pool1 pool1_mask", pool)  # fmt: skip
    text += conv_bn_relu("conv2_1", "pool1") + v1("POOLING", "pool2", "conv2_1",
                                                  "pool2 pool2_mask", pool)  # fmt: skip
    up = "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: %d }"
    text += v1("UNPOOLING", "unpool2", "pool2 pool2_mask", "unpool2", up % 8)
    text += conv_bn_relu("deconv2_1", "unpool2", "DECONVOLUTION")
    text += v1("UNPOOLING", "unpool1", "deconv2_1 pool1_mask", "unpool1", up % 16)
    text += conv_bn_relu("deconv1_1", "unpool1", "DECONVOLUTION")
    options = f"{rates} convolution_param {{ num_output: {CLASSES} kernel_size: 1 }}"
    return text + v1("CONVOLUTION", "seg-score-voc", "deconv1_1", "seg-score", options)


def test_deconvnet_is_converted_run_exported_and_traced(tmp_path):
    text = deconvnet("bn_mode: INFERENCE")
    assert not parse_net(text).unknown
    net = converted(tmp_path, text)
    assert net.spec.shapes["seg-score"] == (1, CLASSES, 16, 16)
    traced(net, "seg-score")
    check_exports(tmp_path, net)


def test_deconvnet_trains(tmp_path):
    path = tmp_path / "train.prototxt"
    loss = (
        "layers { name: 'loss' type: SOFTMAX_LOSS bottom: 'seg-score' bottom: 'label' top: 'loss' }"
    )
    label = 'input: "label" input_dim: 1 input_dim: 1 input_dim: 16 input_dim: 16\n'
    text = deconvnet("").replace("layers {", label + "layers {", 1)
    path.write_text(text + loss)
    net = randomized(load(path, phase="TRAIN"))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    _, learned = gradients(net, {"data": x, "label": torch.ones(1, 1, 16, 16)}, "loss")
    assert learned["conv1_1.weight"].abs().max() > 0
