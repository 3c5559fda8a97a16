"""A block of SENet, one of MobileNet, and a training net of rloss."""

from __future__ import annotations

import torch

from caffe_port import load
from caffe_port.parity import read_recording
from caffe_port.proto import parse_net, read_net
from tests.families.making import check_exports, converted, gradients, randomized, traced
from tests.goldens_dir import GOLDENS, ROOT

ZOO = ROOT / "prototxt"
INPUT = 'input: "data" input_dim: 2 input_dim: 3 input_dim: 17 input_dim: 17\n'


def block(type, name, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    return f'layer {{ name: "{name}" type: "{type}" {bottoms} top: "{top}" {more} }}\n'


def conv(name, bottom, options):
    return block("Convolution", name, bottom, name, f"convolution_param {{ {options} }}")


def senet():
    text = INPUT + conv("conv2_1_1x1_increase", "data", "num_output: 8 kernel_size: 1")
    text += block("Pooling", "conv2_1_global_pool", "conv2_1_1x1_increase", "conv2_1_global_pool",
                  "pooling_param { pool: AVE global_pooling: true }")  # fmt: skip
    text += conv("conv2_1_1x1_down", "conv2_1_global_pool", "num_output: 2 kernel_size: 1")
    text += conv("conv2_1_1x1_up", "conv2_1_1x1_down", "num_output: 8 kernel_size: 1")
    text += block("Sigmoid", "conv2_1_prob", "conv2_1_1x1_up", "conv2_1_1x1_up")
    text += conv("conv2_1_1x1_proj", "data", "num_output: 8 kernel_size: 1")
    return text + block("Axpy", "conv2_1", "conv2_1_1x1_up conv2_1_1x1_increase conv2_1_1x1_proj",
                        "conv2_1")  # fmt: skip


def mobilenet():
    text = INPUT + conv("conv1", "data", "num_output: 6 kernel_size: 3 stride: 2 pad: 1")
    text += block("ReLU6", "relu1", "conv1", "conv1")
    text += block("ConvolutionDepthwise", "conv2_1/dw", "conv1", "conv2_1/dw", "convolution_param "
                  "{ num_output: 6 bias_term: false pad: 1 kernel_size: 3 stride: 1 }")  # fmt: skip
    text += block("BatchNorm", "conv2_1/dw/bn", "conv2_1/dw", "conv2_1/dw")
    text += block("Scale", "conv2_1/dw/scale", "conv2_1/dw", "conv2_1/dw",
                  "scale_param { bias_term: true }")  # fmt: skip
    text += block("ReLU", "relu2_1/dw", "conv2_1/dw", "conv2_1/dw")
    text += block("DepthwiseConvolution", "conv2_2/dw", "conv2_1/dw", "conv2_2/dw",
                  "convolution_param { num_output: 6 group: 6 pad: 1 kernel_size: 3 }")  # fmt: skip
    return text + conv("conv2_2/sep", "conv2_2/dw", "num_output: 4 kernel_size: 1")


def test_senet(tmp_path):
    net = converted(tmp_path, senet())
    x = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.optimized()({"data": x})["conv2_1"], net({"data": x})["conv2_1"])
    traced(net, "conv2_1")
    check_exports(tmp_path, net)


def test_mobilenet_is_folded_as_its_convolutions(tmp_path):
    net = converted(tmp_path, mobilenet())
    x = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(1))
    scores = net({"data": x})["conv2_2/sep"]
    torch.testing.assert_close(net.optimized()({"data": x})["conv2_2/sep"], scores, rtol=1e-4,
                               atol=1e-4)  # fmt: skip
    traced(net, "conv2_2/sep")
    check_exports(tmp_path, net)


def test_rloss_trains_with_its_regularized_loss(tmp_path):
    label = 'input: "label" input_dim: 2 input_dim: 1 input_dim: 17 input_dim: 17\n'
    text = (
        INPUT + label + conv("fc8_voc12", "data", "num_output: 4 kernel_size: 3 pad: 1 stride: 8")
    )
    text += block("Interp", "label_shrink", "label", "label_shrink",
                  "interp_param { shrink_factor: 8 pad_beg: 0 pad_end: 0 }")  # fmt: skip
    text += block("SoftmaxWithLoss", "loss", "fc8_voc12 label_shrink", "softmax_loss",
                  "loss_weight: 1.0 loss_param { ignore_label: 255 }")  # fmt: skip
    text += block("Interp", "fc8_interp", "fc8_voc12", "fc8_interp",
                  "interp_param { zoom_factor: 8 }")  # fmt: skip
    text += block("Softmax", "fc8_interp_softmax", "fc8_interp", "fc8_interp_softmax")
    text += block("DenseCRFLoss", "densecrf_loss", "data fc8_interp_softmax", "densecrf_loss",
                  "propagate_down: false propagate_down: true loss_weight: 2e-3 "
                  "densecrf_loss_param { bi_xy_std: 100 bi_rgb_std: 15 }")  # fmt: skip
    assert not parse_net(text).unknown
    path = tmp_path / "train.prototxt"
    path.write_text(text)
    net = randomized(load(path, phase="TRAIN"))
    x = torch.randn(2, 3, 17, 17, generator=torch.Generator().manual_seed(1)) * 60
    loss, learned = gradients(net, {"data": x, "label": torch.ones(2, 1, 17, 17)}, "densecrf_loss")
    assert loss < 0  # the cost without its constant
    assert learned["fc8_voc12.weight"].abs().max() > 0


def test_mobilenet_ssd_finds_caffes_boxes():
    """prototxt/mobilenet_ssd with a sixteenth of its channels, recorded in weiliu89's Caffe."""
    folder = GOLDENS / "detectors" / "ssd_mobilenet"
    recording = read_recording(folder)
    published = read_net(ZOO / "mobilenet_ssd" / "deploy.prototxt")
    text = read_net(folder / "net.prototxt")
    assert [layer.type for layer in text.layer] == [layer.type for layer in published.layer]
    net = load(folder / "net.prototxt", folder / "net.caffemodel")
    found = net({"data": torch.from_numpy(recording.inputs["data"])})["detection_out"][0, 0]
    wanted = torch.from_numpy(recording.data["detection_out"][0, 0])
    assert torch.equal(found[:, :2], wanted[:, :2])  # the image and the class of each row
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert len(wanted) == 100  # keep_top_k
    assert len(wanted[:, 1].unique()) > 8
