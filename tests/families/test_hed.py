"""HED, RCF and DSS: side outputs cropped where places coincide, and losses that weigh classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port import load
from caffe_port.proto import parse_net
from tests.families.making import check_exports, converted, gradients, randomized, traced

SIZE = 20
PAD = 5
INPUT = f'input: "data" input_dim: 1 input_dim: 3 input_dim: {SIZE} input_dim: {SIZE}\n'


@pytest.fixture
def pairs(tmp_path):
    """Images and edge maps with grey levels between, and a list of them."""
    rng = np.random.default_rng(3)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(tmp_path / f"{i}.png")
        edges = rng.choice([0, 0, 0, 60, 255], (SIZE, SIZE)).astype(np.uint8)
        Image.fromarray(edges).save(tmp_path / f"{i}_gt.png")
    lines = "".join(f"{i}.png {i}_gt.png\n" for i in range(2))
    (tmp_path / "train_pair.lst").write_text(lines)
    return tmp_path


def data(folder, more=""):
    return (
        'layer { name: "data" type: "ImageLabelmapData" top: "data" top: "label" '
        "include { phase: TRAIN } transform_param { mirror: false mean_value: 104.00699 "
        "mean_value: 116.66877 mean_value: 122.67892 } "
        f'image_data_param {{ root_folder: "{folder}/" '
        f'source: "{folder}/train_pair.lst" batch_size: 1 shuffle: true new_height: 0 new_width: 0 '
        f"{more} }} }}\n"
    )


def net_text(crop, losses, head):
    rates = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0}"
    text, blob = head, "data"
    for i, pad in ((1, PAD), (2, 1)):
        text += (
            f"layer {{ bottom: '{blob}' top: 'conv{i}_1' name: 'conv{i}_1' type: \"Convolution\" "
            f"{rates} convolution_param {{ engine: CAFFE num_output: 4 pad: {pad} "
            "kernel_size: 3 } }\n"
            f"layer {{ bottom: 'conv{i}_1' top: 'conv{i}_1' name: 'relu{i}_1' type: \"ReLU\" }}\n"
        )
        blob = f"pool{i}"
        text += (
            f"layer {{ name: 'pool{i}' bottom: 'conv{i}_1' top: 'pool{i}' type: \"Pooling\" "
            "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n"
        )
    for i in (1, 2):
        score = "score-dsn1-up" if i == 1 else "score-dsn2"
        text += (
            f"layer {{ name: 'score-dsn{i}' type: \"Convolution\" bottom: 'conv{i}_1' "
            f"top: '{score}' "
            f"{rates} convolution_param {{ engine: CAFFE num_output: 1 kernel_size: 1 }} }}\n"
        )
        if i == 2:
            text += (
                "layer { type: \"Deconvolution\" name: 'upsample_2' bottom: 'score-dsn2' "
                "top: 'score-dsn2-up' param { lr_mult: 0 decay_mult: 1 } "
                "convolution_param { kernel_size: 4 stride: 2 num_output: 1 bias_term: false } }\n"
            )
        text += (
            f"layer {{ type: \"{crop}\" name: 'crop' bottom: 'score-dsn{i}-up' bottom: 'data' "
            f"top: 'upscore-dsn{i}' }}\n"
        )
        if losses:
            text += (
                f'layer {{ type: "SigmoidCrossEntropyLoss" bottom: "upscore-dsn{i}" '
                f'bottom: "label" top:"dsn{i}_loss" loss_weight: 1}}\n'
            )
    text += (
        'layer { name: "concat" bottom: "upscore-dsn1" bottom: "upscore-dsn2" '
        'top: "concat-upscore" type: "Concat" concat_param { concat_dim: 1} }\n'
        "layer { name: 'new-score-weighting' type: \"Convolution\" bottom: 'concat-upscore' "
        "top: 'upscore-fuse' convolution_param { num_output: 1 kernel_size: 1 "
        'weight_filler {type: "constant" value: 0.2} } }\n'
    )
    if losses:
        return text + (
            'layer { type: "SigmoidCrossEntropyLoss" bottom: "upscore-fuse" bottom: "label" '
            'top:"fuse_loss" loss_weight: 1}\n'
        )
    return (
        text + 'layer { name: "sigmoid-fuse" type: "Sigmoid" bottom: "upscore-fuse" top: "fuse" }\n'
    )


def test_rcf_is_converted_run_exported_and_traced(tmp_path):
    text = net_text("AutoCrop", False, INPUT)
    parsed = parse_net(text)
    assert (parsed.dialect, parsed.unknown) == ("rcf", ())
    net = converted(tmp_path, text)
    offsets = [layer.op.offset for layer in net.spec.layers if layer.type == "AutoCrop"]
    # conv1_1 is the image's place + 1 - PAD; the deconvolution's is conv1_1's - 1
    assert offsets == [(PAD - 1, PAD - 1), (PAD, PAD)]
    traced(net, "concat-upscore")
    check_exports(tmp_path, net)


def test_hed_is_cut_as_rcf_where_the_dialect_is_given(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(net_text("Crop", False, INPUT))
    net, other = load(path, dialect="hed"), tmp_path / "rcf.prototxt"
    other.write_text(net_text("AutoCrop", False, INPUT))
    rcf = load(other)
    for parameters in zip(randomized(net).parameters(), randomized(rcf).parameters(), strict=True):
        assert torch.equal(*parameters)
    x = torch.randn(1, 3, SIZE, SIZE)
    assert torch.equal(net({"data": x})["fuse"], rcf({"data": x})["fuse"])


@pytest.mark.parametrize(
    ("crop", "more", "dialect"),
    [("Crop", "", "hed"), ("AutoCrop", "", "rcf"), ("Crop", "normalize: true", "bvlc")],
)
@pytest.mark.filterwarnings("ignore:Crop layers without crop_param")
def test_training_with_each_forks_loss(pairs, crop, more, dialect):
    path = pairs / "train.prototxt"
    path.write_text(net_text(crop, True, data(pairs, more)))
    assert parse_net(path.read_text()).dialect == dialect
    net = randomized(load(path, phase="TRAIN"), scale=0.05)
    torch.manual_seed(1)
    blobs = net({}, keep="all")
    score, label = blobs["upscore-fuse"], blobs["label"]
    assert label.shape == score.shape
    assert ((label > 0) & (label < 1)).any() == (dialect == "rcf")
    edges, others = (label == 1), (label == 0)
    each = torch.nn.functional.softplus(score) - score * label
    wanted = each.sum()
    if dialect != "bvlc":
        weight = {"hed": 1, "rcf": 1.1}[dialect]
        total = edges.sum() + others.sum()
        wanted = each[edges].sum() * others.sum() / total
        wanted = wanted + weight * each[others].sum() * edges.sum() / total
    torch.testing.assert_close(blobs["fuse_loss"], wanted, rtol=1e-5, atol=1e-5)
    _, learned = gradients(net, {}, "fuse_loss")
    assert learned["conv1_1.weight"].abs().max() > 0
