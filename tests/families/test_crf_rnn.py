"""CRF-RNN, in V1 and V2 text: FCN-8s with Crop layers without options, and the mean field."""

from __future__ import annotations

import numpy as np
import torch

from caffe_port import load
from caffe_port.proto import parse_net
from tests.families.making import check_exports, converted, randomized, traced

PAD = 20  # of the first convolution, 100 in the original
HEAD = """name: 'TVG_CRF_RNN_COCO_VOC'
input: 'data'
input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 40
force_backward: true
"""
V1_RATES = "blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0"
V2_RATES = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
MEANFIELD = """multi_stage_meanfield_param { num_iterations: 3
  compatibility_mode: POTTS#the matrix has -1 on its diagonal
  threshold: 2 theta_alpha: 160 theta_beta: 3 theta_gamma: 3
  spatial_filter_weight: 3 bilateral_filter_weight: 5 }"""


class V1:
    def layer(self, type, name, bottoms, tops, more=""):
        links = [f"bottom: '{b}'" for b in bottoms.split()] + [f"top: '{t}'" for t in tops.split()]
        return f"layers {{ {' '.join(links)} name: '{name}' type: {type} {more} }}\n"

    def mean_field(self):
        rates = "blobs_lr: 10000#of W_G\n blobs_lr: 10000\n blobs_lr: 1000\n"
        return self.layer(
            "MULTI_STAGE_MEANFIELD", "inference1", "unary Q0 data", "pred", rates + MEANFIELD
        )


class V2(V1):
    TYPES = {"CONVOLUTION": "Convolution", "RELU": "ReLU", "POOLING": "Pooling", "CROP": "Crop",
             "DECONVOLUTION": "Deconvolution", "ELTWISE": "Eltwise", "SPLIT": "Split",
             "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield"}  # fmt: skip

    def layer(self, type, name, bottoms, tops, more=""):
        text = super().layer(f'"{self.TYPES[type]}"', name, bottoms, tops, more)
        return "layer" + text.removeprefix("layers").replace(V1_RATES, V2_RATES)

    def mean_field(self):
        rates = "param { lr_mult: 10000 } param { lr_mult: 10000 } param { lr_mult: 1000 }"
        return self.layer(
            "MULTI_STAGE_MEANFIELD", "inference1", "unary Q0 data", "pred", rates + MEANFIELD
        )


def crf_rnn(generation, crf=True):
    """Three poolings, three scores, each upscored and cropped, as the original has them."""
    layer, text, blob = generation.layer, HEAD, "data"

    def windows(type, name, bottom, top, options):
        filled = f"{V1_RATES} convolution_param {{ num_output: 4 {options} }}"
        return layer(type, name, bottom, top, filled)

    for i, pad in enumerate((PAD, 1, 1), start=1):
        text += windows("CONVOLUTION", f"conv{i}_1", blob, f"conv{i}_1",
                        f"engine: CAFFE pad: {pad} kernel_size: 3")  # fmt: skip
        text += layer("RELU", f"relu{i}_1", f"conv{i}_1", f"conv{i}_1")
        blob = f"pool{i}"
        text += layer("POOLING", blob, f"conv{i}_1", blob,
                      "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")  # fmt: skip
    up = "kernel_size: 4 stride: 2"
    text += windows("CONVOLUTION", "fc6", "pool3", "fc6", "engine: CAFFE kernel_size: 3")
    text += windows("CONVOLUTION", "score-fr", "fc6", "score", "kernel_size: 1")
    text += windows("DECONVOLUTION", "score2", "score", "score2", up)
    text += windows("CONVOLUTION", "score-pool4", "pool2", "score-pool4", "kernel_size: 1")
    text += layer("CROP", "crop", "score-pool4 score2", "score-pool4c")
    text += layer("ELTWISE", "fuse", "score2 score-pool4c", "score-fused",
                  "eltwise_param { operation: SUM }")  # fmt: skip
    text += windows("DECONVOLUTION", "score4", "score-fused", "score4", up)
    text += windows("CONVOLUTION", "score-pool3", "pool1", "score-pool3", "kernel_size: 1")
    text += layer("CROP", "crop", "score-pool3 score4", "score-pool3c")
    text += layer("ELTWISE", "fuse", "score4 score-pool3c", "score-final",
                  "eltwise_param { operation: SUM }")  # fmt: skip
    text += windows("DECONVOLUTION", "upsample", "score-final", "bigscore", up)
    text += layer("CROP", "crop", "bigscore data", "coarse")
    text += layer("SPLIT", "splitting", "coarse", "unary Q0")
    return text + generation.mean_field() if crf else text


def image():
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(5)) * 200 - 100


def test_both_generations_are_one_net_cut_where_places_coincide():
    nets = []
    for generation in (V1(), V2()):
        parsed = parse_net(crf_rnn(generation))
        assert parsed.dialect == "longjon"
        assert not parsed.unknown
        nets.append(parsed.message.SerializeToString())
    assert nets[0] == nets[1]


def test_the_crops_have_the_offsets_of_the_fork(tmp_path):
    net = converted(tmp_path, crf_rnn(V2()))
    offsets = [layer.op.offset for layer in net.spec.layers if layer.type == "Crop"]
    # by hand: place x of pool3 is the centre 2 x + 1/2 of pool2, and 2 (x - 1) + 3/2 of score2,
    # behind fc6; so score2's y is pool2's y + 1, and in the same way score4's is pool1's z + 1. Its
    # w of bigscore is conv1's w + 1, which is the image's w + 1 - (PAD - 1)
    assert offsets == [(1, 1), (1, 1), (PAD - 2, PAD - 2)]


def test_forward_backward_export_and_trace(tmp_path):
    net = converted(tmp_path, crf_rnn(V1()), scale=0.2)
    blobs = net({"data": image()}, keep="all")
    assert blobs["pred"].shape == blobs["coarse"].shape == (1, 4, 32, 40)
    assert not torch.equal(blobs["pred"], blobs["coarse"])
    assert torch.isfinite(blobs["pred"]).all()
    points = traced(net, "pred")
    for label in points:  # the mean field keeps places
        assert np.array_equal(points[label]["coarse"], points[label]["pred"])
    check_exports(tmp_path, net)  # of the scores; the mean field is left out, with a warning


def test_training_reaches_all_three_matrices_and_the_net(tmp_path):
    loss = """
input: "label" input_dim: 1 input_dim: 1 input_dim: 32 input_dim: 40
"""
    path = tmp_path / "train.prototxt"
    text = crf_rnn(V2()).replace("force_backward: true\n", "force_backward: true\n" + loss)
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pred" bottom: "label" '
    path.write_text(text + 'top: "loss" loss_param { ignore_label: 255 normalize: false } }')
    net = randomized(load(path, phase="TRAIN"), scale=0.2)
    label = torch.randint(4, (1, 1, 32, 40), generator=torch.Generator().manual_seed(1)).float()
    net({"data": image(), "label": label}, keep=["loss"])["loss"].backward()
    for name in ("spatial", "bilateral", "compatibility"):
        assert net.module("inference1").param(name).grad.abs().max() > 0
    assert net.module("conv1_1").param("weight").grad.abs().max() > 0
    rates = [param.lr_mult for param in net.spec.layer("inference1").params]
    assert rates == [10000, 10000, 1000]
