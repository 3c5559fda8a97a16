"""Every layer type on a device that is not main memory: equal numbers, and no tensor left behind.

A GPU refuses an operation on tensors of two devices; so does the second device of these tests.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.live import mode
from caffe_port.live.net import Net as LiveNet
from caffe_port.net import Net
from caffe_port.spec.ops import BUILTIN
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import net_of
from tests.second_device import DEVICE, DeviceTensor, second_device
from tests.verifying import recorded_net

Values = Mapping[str, torch.Tensor]

torch.manual_seed(0)  # what is drawn below, outside of tests, is the same in every process


def drawn(*shape: int, below: int = 0) -> torch.Tensor:
    """Numbers, or labels."""
    return torch.randint(below, shape).float() if below else torch.randn(shape)


def outcome(net: Net, values: Values, device: torch.device) -> dict[str, np.ndarray]:
    """Blobs, diffs and gradients of a pass there and back, in which every output counts."""
    torch.manual_seed(1)  # of dropout
    net = copy.deepcopy(net).to(device)
    blobs = net({name: x.to(device) for name, x in values.items()}, keep="all")
    assert {type(blob) is DeviceTensor for blob in blobs.values()} == {device == DEVICE}
    losses = [blobs[name].square().sum() for name in net.spec.outputs if blobs[name].requires_grad]
    if losses:
        torch.stack(losses).sum().backward()
    found = {name: blob.detach() for name, blob in blobs.items()}
    found |= {f"diff {name}": diff for name in blobs if (diff := blobs.diff(name)) is not None}
    params = net.named_parameters()
    found |= {f"diff {name}": p.grad for name, p in params if p.grad is not None}
    return {name: value.cpu().numpy() for name, value in found.items()}


def check(net: Net, values: Values) -> None:
    """A pass on the second device equals one in main memory."""
    wanted = outcome(net, values, torch.device("cpu"))
    with second_device() as device:
        found = outcome(net, values, device)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def of_each_type() -> dict[str, str]:
    """Layer types that a recording has -> the recording."""
    found: dict[str, str] = {}
    for path in sorted((GOLDENS / "layers").glob("*/net.prototxt")):
        for type in re.findall(r'type: "(\w+)"', path.read_text()):
            if type in BUILTIN:
                found.setdefault(type, path.parent.name)
    return found


RECORDED = of_each_type()


@pytest.mark.parametrize("name", sorted({*RECORDED.values()}))
def test_recorded_layers(name):
    net, recording = recorded_net(GOLDENS / "layers" / name)
    net.requires_grad_(True)
    check(net, {blob: torch.from_numpy(np.array(x)) for blob, x in recording.inputs.items()})


X, IMAGES = (2, 4, 6, 6), (2, 3, 6, 6)
REGIONS = torch.tensor([[0.0, 0, 0, 20, 20], [1, 3, 2, 15, 20]])
MASK = torch.arange(9.0).mul(4).reshape(1, 1, 3, 3).repeat(2, 4, 1, 1)  # places in 6 x 6
BOX = torch.tensor([[1.0, 2, 12, 14, 1]])
ANCHORS = "'feat_stride': 8, 'scales': [1], 'ratios': [1]"
BITS = torch.arange(72, dtype=torch.int32).reshape(2, 1, 6, 6).view(torch.float32)
FIELD = "cls_num: 2 field_h: 9 field_w: 9 downsample_rate: 4"
HEAD = (drawn(2, 6, 3, 4), torch.arange(144.0).reshape(2, 6, 3, 4) % 2)
CRF = "max_iter: 2 pos_w: 2 pos_xy_std: 1.5 bi_w: 3 bi_xy_std: 10 bi_rgb_std: 6"
# type -> its options and bottoms; for other types there are recordings
OTHERS: dict[str, tuple[str, tuple[torch.Tensor, ...]]] = {
    "Axpy": ("", (drawn(2, 4, 1, 1), drawn(*X), drawn(*X))),
    "BN": ("", (drawn(*X),)),
    "ConvolutionDepthwise": ("convolution_param { kernel_size: 3 }", (drawn(*X),)),
    "DenseCRF": (
        f"dense_crf_param {{ {CRF} }}", (drawn(*IMAGES), torch.full((2, 1, 1, 2), 6.0),
                                         drawn(*IMAGES) * 50),
    ),
    "DenseCRFLoss": (
        "loss_weight: 1 densecrf_loss_param { bi_rgb_std: 15 bi_xy_std: 9 }",
        (drawn(*IMAGES) * 50, drawn(*X).softmax(1)),
    ),
    "DepthwiseConvolution": (
        "convolution_param { num_output: 4 group: 4 kernel_size: 3 }", (drawn(*X),)
    ),
    "FeedbackLoss": ("", (drawn(*X), drawn(2, 1, 6, 6, below=4))),
    "LSTMUnit": ('top: "h"', (drawn(1, 2, 3), drawn(1, 2, 12), torch.ones(1, 2))),
    "MultiStageMeanfield": (
        "multi_stage_meanfield_param "
        "{ num_iterations: 2 theta_alpha: 9 theta_beta: 6 theta_gamma: 2 }",
        (drawn(*X), drawn(*X), drawn(*IMAGES) * 50),
    ),
    "PSROIPooling": (
        "psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 0.25 }",
        (drawn(*X), REGIONS),
    ),
    "BoxAnnotatorOHEM": (
        'top: "w" box_annotator_ohem_param { roi_per_img: 1 }',
        (REGIONS, drawn(2, 1), torch.ones(2, 1), drawn(2, 8)),
    ),
    "BoxOutput": (
        'top: "s" box_output_param { field_h: 9 field_w: 9 downsample_rate: 4 min_size: 1 }',
        (drawn(2, 6, 3, 4),),
    ),
    "DetectionAccuracy": (f'top: "o" detection_accuracy_param {{ {FIELD} }}', HEAD),
    "DetectionLoss": (
        f'detection_loss_param {{ {FIELD} sample_mode: "bootstrap" }}', HEAD,
    ),
    "EltwiseAccuracy": ("", (drawn(*X), torch.ones(2, 1, 6, 6))),
    "MaskPooling": ("", (drawn(*X), drawn(2, 1, 6, 6))),
    "MultiChannelReweightedSigmoidCrossEntropyLoss": ("", (drawn(*X), BITS)),
    "MultiChannelSigmoidCrossEntropyLoss": ("", (drawn(*X), BITS)),
    "Quantize": ("", (drawn(*X) * 100,)),
    "Rescale": ('top: "w" rescale_param { rf: 2 }', (drawn(*X) * 3,)),
    "SigmoidCrossEntropyBalanceLoss": ("", (drawn(*X), (drawn(*X) > 0.5).float())),
    "SmoothL1LossOHEM": (
        'top: "e" loss_weight: 1 loss_weight: 0', (drawn(2, 8), drawn(2, 8) * 2),
    ),
    "Padding": ("padding_param { pad_l: 1 pad_r: 2 pad_t: 1 }", (drawn(*X),)),
    "RPNAnchorTarget": (
        'top: "t" top: "i" top: "o" python_param { param_str: '
        f"\"{{{ANCHORS}, 'allowed_border': 99}}\" }}",
        (drawn(1, 2, 6, 6).sigmoid(), BOX, torch.tensor([[48.0, 48, 1]])),
    ),
    "RPNProposal": (
        f"python_param {{ param_str: \"{{{ANCHORS}, 'RPN_POST_NMS_TOP_N': 5}}\" }}",
        (drawn(1, 2, 6, 6).sigmoid(), drawn(1, 4, 6, 6), torch.tensor([[48.0, 48, 1]])),
    ),
    "RPNProposalTarget": (
        'top: "l" top: "t" top: "i" top: "o" python_param { param_str: "{\'num_classes\': 3}" }',
        (REGIONS[:1], BOX),
    ),
    "ReLU6": ("", (drawn(*X) * 5,)),
    "Reorg": ("reorg_param { stride: 2 }", (drawn(*X),)),
    "ResizeBilinear": (
        "resize_bilinear_param { output_height: 9 output_width: 8 }", (drawn(*X),)
    ),
    "ResizeNearestNeighbor": (
        "resize_nearest_neighbor_param { output_height: 9 output_width: 8 }", (drawn(*X),)
    ),
    "ShuffleChannel": ("shuffle_channel_param { group: 2 }", (drawn(*X),)),
    "SoftmaxWithLossOHEM": (
        'top: "p" top: "each" loss_weight: 1 loss_weight: 0 loss_weight: 0 '
        "loss_param { ignore_label: 255 normalization: VALID }",
        (drawn(*X), drawn(2, 1, 6, 6, below=4)),
    ),
    "SpatialDropout": ("dropout_param { dropout_ratio: 0.25 }", (drawn(*X),)),
    "Unpooling": (
        "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 6 }",
        (drawn(2, 4, 3, 3), MASK),
    ),
    "Upsample": ("upsample_param { scale: 2 }", (drawn(2, 4, 3, 3), MASK)),
}  # fmt: skip
# what reads and writes files, runs a user's code, or is tested under another name or in a net
NOT_HERE = {
    "AnnotatedData", "AutoCrop", "Data", "DenseImageData", "DummyData", "HDF5Data", "HDF5Output",
    "ImageData", "ImageLabelmapData", "ImageSegData", "Input", "MatRead", "MatWrite", "MemoryData",
    "Parameter", "Python", "Split", "WindowData",
}  # fmt: skip


def test_no_type_is_left_out():
    assert {*RECORDED, *OTHERS, *NOT_HERE} == {*BUILTIN}


def one_layer(type: str, options: str, *bottoms: torch.Tensor, phase: str = "TRAIN") -> Net:
    names = " ".join(f'bottom: "b{i}"' for i in range(len(bottoms)))
    text = f'layer {{ name: "op" type: "{type}" {names} top: "y" {options} }}'
    made = net_of(text, *(x.shape for x in bottoms), phase=phase)
    with torch.no_grad():
        for param in made.parameters():
            param.normal_()
    return made


@pytest.mark.parametrize("type", OTHERS)
def test_types_without_recording(type):
    options, bottoms = OTHERS[type]
    check(one_layer(type, options, *bottoms), {f"b{i}": x for i, x in enumerate(bottoms)})


def test_tops_of_data_layers_and_parameters_are_where_the_net_is():
    net = net_of("""
      layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }
      layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 dim: 3 } } }
      layer { name: "y" type: "Eltwise" bottom: "x" bottom: "w" top: "y" }
    """)
    with torch.no_grad():
        net.layer_params("w")[0].fill_(3)
    check(net, {})


def live_passes(net: Net, values: Values) -> dict[str, np.ndarray]:
    """Two passes of pycaffe's net: all blobs and diffs."""
    live = LiveNet.of(copy.deepcopy(net))
    for name, x in values.items():
        live.blobs[name].data[...] = x
    for _ in range(2):
        live.forward()
        for name in live.outputs:
            live.blobs[name].diff[...] = 1
        live.backward()
    blobs = live.blobs.items()
    found = {
        f"{name} {what}": getattr(blob, what) for name, blob in blobs for what in ("data", "diff")
    }
    for layer, params in live.params.items():
        found |= {f"{layer} {i}": blob.diff for i, blob in enumerate(params)}
    return {name: values.copy() for name, values in found.items()}


@contextlib.contextmanager
def gpu_mode():
    """pycaffe's set_mode_gpu(), on the second device."""
    with pytest.MonkeyPatch.context() as patch, second_device() as device:
        patch.setattr(mode, "device", lambda: device)
        yield


SCORES = (drawn(2, 3, 4, 4), drawn(2, 1, 4, 4, below=3))
WEIGHTS = "class_weighting: 1 class_weighting: 2 class_weighting: 4"
# layers with state or tables beyond their parameters, and some with parameters
LIVE = [
    ("SegAccuracy", "seg_accuracy_param { reset: false }", SCORES),
    ("InfogainLoss", 'infogain_loss_param { source: "%s/matrix.binaryproto" }', SCORES),
    ("SoftmaxWithLoss", f"loss_param {{ weight_by_label_freqs: true {WEIGHTS} }}", SCORES),
    ("LSTM", "recurrent_param { num_output: 3 }", (drawn(2, 2, 4), torch.ones(2, 2))),
    ("Convolution", "convolution_param { num_output: 3 kernel_size: 3 }", (drawn(*X),)),
    ("BatchNorm", "", (drawn(*X),)),
]  # fmt: skip


@pytest.mark.parametrize(("type", "options", "bottoms"), LIVE, ids=[case[0] for case in LIVE])
def test_pycaffes_gpu_mode(tmp_path, type, options, bottoms):
    matrix = caffe_matrix(tmp_path / "matrix.binaryproto")
    net = one_layer(type, options.replace("%s", str(matrix.parent)), *bottoms)
    net.requires_grad_(True)
    values = {f"b{i}": x for i, x in enumerate(bottoms)}
    wanted = live_passes(net, values)
    with gpu_mode():
        found = live_passes(net, values)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def caffe_matrix(path):
    from caffe_port.proto import caffe_pb2

    values = np.arange(9, dtype=np.float32)
    path.write_bytes(
        caffe_pb2.BlobProto(num=1, channels=1, height=3, width=3, data=values).SerializeToString()
    )
    return path


def test_state_follows_the_mode(monkeypatch):
    """set_mode_cpu() after passes in GPU mode, and back."""
    net = one_layer("SegAccuracy", "seg_accuracy_param { reset: false }", *SCORES)
    live = LiveNet.of(net)
    for i, x in enumerate(SCORES):
        live.blobs[f"b{i}"].data[...] = x
    with second_device() as device:
        for where in (device, torch.device("cpu"), device, torch.device("cpu")):
            monkeypatch.setattr(mode, "device", lambda where=where: where)
            live.forward()
    assert net.module("op").counts.sum() == 4 * 2 * 4 * 4


def test_gpu_mode_names_the_layer_of_a_wrong_label():
    live = LiveNet.of(one_layer("SoftmaxWithLoss", "", *SCORES))
    live.blobs["b1"].data[...] = 7
    with gpu_mode(), pytest.raises(LayerError, match=r"layer 'op'.*label 7; expected 0 to 2"):
        live.forward()
