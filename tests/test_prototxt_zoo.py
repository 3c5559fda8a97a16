"""The networks in prototxt/: generated, buildable, of the published sizes, names and sharing."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port.inspection import leave_v1
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, read_net, read_solver
from caffe_port.spec import NetSpec
from caffe_port.weights import StoredBlob, StoredLayer
from caffe_port.weights.matching import match
from tests.goldens_dir import ROOT

ZOO = ROOT / "prototxt"
# the nets of others: tests/test_prototxt_relatives.py
FILES = sorted(
    str(path.relative_to(ZOO))
    for folder in ("deeplab_*", "fcn_*", "*ssd*")
    for path in ZOO.glob(f"{folder}/*.prototxt")
)
NETS = [name for name in FILES if "solver" not in name]
# The convolutions of VGG16, a branch of DeepLab (fc6, fc7, fc8), the classifier of FCN.
VGG16 = 14_714_688
BRANCH = (9 * 512 + 1) * 1024 + 1025 * 1024 + 1025 * 21
CLASSIFIER = (49 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 21
# The branches of MSc-LargeFOV, of the image and of pool1 to pool4: 3 x 3, 1 x 1, scores.
MSC_BRANCHES = sum((9 * c + 1) * 128 + 129 * 128 + 129 * 21 for c in (3, 64, 128, 256, 512))
# ResNet-101 without its classifier, each BatchNorm with mean, variance and factor
RESNET101 = 42_394_816 + 4 * 52_672 + 104
# Without the fixed upscoring. Published: 20.5M (LargeFOV), 134M (FCN-VGG16), 57M (FCN-AlexNet).
PARAMETERS = {
    "deeplab_v1_largefov": VGG16 + BRANCH,
    "deeplab_v1_msc_largefov": VGG16 + BRANCH + MSC_BRANCHES,
    "deeplab_v2_vgg16_largefov": VGG16 + BRANCH,
    "deeplab_v2_vgg16_aspp_s": VGG16 + 4 * BRANCH,
    "deeplab_v2_vgg16_aspp": VGG16 + 4 * BRANCH,
    "deeplab_v2_resnet101_msc_aspp": RESNET101 + 4 * (9 * 2048 + 1) * 21,
    "deeplab_v2_resnet101_msc_largefov": RESNET101 + (9 * 2048 + 1) * 21,
    "deeplab_v2_resnet101_msc": RESNET101 + 2049 * 21,
    "deeplab_v2_resnet101_aspp": RESNET101 + 4 * (9 * 2048 + 1) * 21,
    "deeplab_v2_resnet101_largefov": RESNET101 + (9 * 2048 + 1) * 21,
    "deeplab_v2_resnet101": RESNET101 + 2049 * 21,
    "fcn_alexnet": 56_954_261,
    "fcn_32s": VGG16 + CLASSIFIER,
    "fcn_16s": VGG16 + CLASSIFIER + 513 * 21,
    "fcn_8s": VGG16 + CLASSIFIER + 513 * 21 + 257 * 21,
    "ssd300_vgg16": 26_285_486,  # as amdegroot/ssd.pytorch; published: a file of 105 MB
    "mobilenet_ssd": 5_783_417,  # chuanqi305/MobileNet-SSD; a file of 23.1 MB
}
VGG = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1",
       "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"]  # fmt: skip


VARIABLES = {
    "EXP": "voc12", "NET_ID": "net", "NUM_LABELS": "21", "DATA_ROOT": "voc12",
    "TRAIN_SET": "train_aug", "TEST_SET": "val", "FEATURE_DIR": "features",
}  # fmt: skip


@pytest.fixture(autouse=True)
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists that the nets name; the only picture is of FCN's example size."""
    folder = tmp_path / "voc12" / "list"
    folder.mkdir(parents=True)
    for name in ("train_aug", "val", "val_id"):
        (folder / f"{name}.txt").write_text("/a.png /a.png\n")
    Image.new("RGB", (500, 500)).save(tmp_path / "voc12" / "a.png")
    monkeypatch.chdir(tmp_path)


@cache
def read(name: str) -> NetSpec:
    return NetSpec.read(
        ZOO / name, phase="TRAIN" if "train" in name else "TEST", variables=VARIABLES
    )


def own(spec: NetSpec) -> int:
    layers = [layer for layer in spec.layers if layer.type != "Deconvolution"]
    return sum(math.prod(p.shape) for layer in layers for p in layer.params if p.owner is None)


def test_the_checked_in_text_is_what_the_builder_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-B", ZOO / "build.py", tmp_path], check=True)
    made = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.prototxt")
    }
    assert sorted(made) == sorted(str(path.relative_to(ZOO)) for path in ZOO.rglob("*.prototxt"))
    for name, text in made.items():
        assert (ZOO / name).read_text() == text, name


@pytest.mark.parametrize("name", NETS)
def test_builds_with_the_published_number_of_parameters(name: str) -> None:
    spec = read(name)
    assert spec.unknown == ()
    assert own(spec) == PARAMETERS[Path(name).parts[0]]
    with torch.device("meta"):
        net = Net(spec, fill=False)
    assert len(list(net.parameters())) == sum(
        p.owner is None for layer in spec.layers for p in layer.params
    )


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("deeplab_v1_largefov/train.prototxt",
         {"data": (30, 3, 321, 321), "fc6": (30, 1024, 41, 41), "fc8_voc12": (30, 21, 41, 41),
          "label_shrink": (30, 1, 41, 41)}),
        ("deeplab_v1_largefov/test.prototxt",
         {"data": (1, 3, 513, 513), "fc8_voc12": (1, 21, 65, 65), "fc8_interp": (1, 21, 513, 513)}),
        ("deeplab_v1_largefov/deploy.prototxt", {"fc8_interp": (1, 21, 513, 513)}),
        ("deeplab_v1_msc_largefov/train.prototxt",
         {"data": (30, 3, 321, 321), "data_ms": (30, 21, 41, 41), "pool1_ms": (30, 21, 41, 41),
          "pool2_ms": (30, 21, 41, 41), "pool3_ms": (30, 21, 41, 41), "pool4_ms": (30, 21, 41, 41),
          "fc_fusion": (30, 21, 41, 41), "label_shrink": (30, 1, 41, 41)}),
        ("deeplab_v1_msc_largefov/test.prototxt",
         {"data_ms": (1, 21, 513, 513), "pool1_ms": (1, 21, 257, 257),
          "pool2_ms": (1, 21, 129, 129), "pool3_ms": (1, 21, 65, 65), "pool4_ms": (1, 21, 65, 65),
          "pool1_interp": (1, 21, 513, 513), "fc8_interp": (1, 21, 513, 513),
          "fc_fusion": (1, 21, 513, 513)}),
        ("deeplab_v1_msc_largefov/deploy.prototxt", {"fc_fusion": (1, 21, 513, 513)}),
        ("deeplab_v2_resnet101/train.prototxt",
         {"res5c": (1, 2048, 41, 41), "fc1_voc12": (1, 21, 41, 41),
          "label_shrink": (1, 1, 41, 41)}),
        ("deeplab_v2_resnet101_aspp/deploy.prototxt",
         {"fc1_voc12_c3": (1, 21, 65, 65), "fc1_interp": (1, 21, 513, 513)}),
        ("deeplab_v2_resnet101_msc_largefov/test.prototxt",
         {"fc1_voc12_res05": (1, 21, 33, 33), "fc_fusion": (1, 21, 65, 65),
          "fc1_interp": (1, 21, 513, 513)}),
        ("deeplab_v2_vgg16_aspp_s/test.prototxt",
         {"data": (1, 3, 513, 513), "fc6_1": (1, 1024, 65, 65), "fc8_voc12": (1, 21, 65, 65),
          "fc8_interp": (1, 21, 513, 513)}),
        ("deeplab_v2_vgg16_aspp/train.prototxt",
         {"data": (10, 3, 321, 321), "fc8_voc12_4": (10, 21, 41, 41),
          "fc8_voc12": (10, 21, 41, 41)}),
        ("deeplab_v2_resnet101_msc_aspp/train.prototxt",
         {"res5c": (1, 2048, 41, 41), "res5c_res05": (1, 2048, 21, 21),
          "res5c_res075": (1, 2048, 31, 31), "fc_fusion": (1, 21, 41, 41),
          "label_shrink16": (1, 1, 21, 21)}),
        ("deeplab_v2_resnet101_msc_aspp/test.prototxt",
         {"res5c": (1, 2048, 65, 65), "res5c_res05": (1, 2048, 33, 33),
          "res5c_res075": (1, 2048, 49, 49), "fc1_interp": (1, 21, 513, 513)}),
        ("fcn_alexnet/deploy.prototxt", {"data": (1, 3, 500, 500), "score": (1, 21, 500, 500)}),
        ("fcn_32s/deploy.prototxt", {"fc7": (1, 4096, 16, 16), "score": (1, 21, 500, 500)}),
        ("fcn_16s/deploy.prototxt", {"score_pool4c": (1, 21, 34, 34), "score": (1, 21, 500, 500)}),
        ("fcn_8s/deploy.prototxt", {"score_pool3c": (1, 21, 70, 70), "score": (1, 21, 500, 500)}),
        ("ssd300_vgg16/deploy.prototxt",
         {"conv4_3_norm": (1, 512, 38, 38), "fc7": (1, 1024, 19, 19), "conv9_2": (1, 256, 1, 1),
          "mbox_loc": (1, 8732 * 4), "mbox_conf": (1, 8732 * 21),
          "mbox_priorbox": (1, 2, 8732 * 4)}),
        ("mobilenet_ssd/deploy.prototxt",
         {"conv11": (1, 512, 19, 19), "conv13": (1, 1024, 10, 10), "conv17_2": (1, 128, 1, 1),
          "mbox_priorbox": (1, 2, 1917 * 4)}),
        ("fcn_8s/train.prototxt", {"data": (1, 3, 500, 500), "label": (1, 1, 500, 500)}),
    ],
)  # fmt: skip
def test_shapes_at_the_published_input(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    spec = read(name)
    assert {blob: spec.shapes[blob] for blob in shapes} == shapes


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("deeplab_v1_largefov", [*VGG, "fc6", "fc7", "fc8_voc12"]),
        ("deeplab_v1_msc_largefov",
         ["data_conv", "data_fc", "data_ms", *VGG[:2], "pool1_conv", "pool1_fc", "pool1_ms",
          *VGG[2:4], "pool2_conv", "pool2_fc", "pool2_ms", *VGG[4:7], "pool3_conv", "pool3_fc",
          "pool3_ms", *VGG[7:10], "pool4_conv", "pool4_fc", "pool4_ms", *VGG[10:], "fc6", "fc7",
          "fc8_voc12"]),
        ("deeplab_v2_vgg16_aspp",
         [*VGG, *(f"{fc}_{i}" for i in (1, 2, 3, 4) for fc in ("fc6", "fc7", "fc8_voc12"))]),
        ("fcn_32s", [*VGG, "fc6", "fc7", "score_fr", "upscore"]),
        ("fcn_16s", [*VGG, "fc6", "fc7", "score_fr", "upscore2", "score_pool4", "upscore16"]),
        ("fcn_8s", [*VGG, "fc6", "fc7", "score_fr", "upscore2", "score_pool4", "upscore_pool4",
                    "score_pool3", "upscore8"]),
        ("fcn_alexnet", [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "score_fr", "upscore"]),
    ],
)  # fmt: skip
def test_layers_with_weights_have_the_published_names(folder: str, names: list[str]) -> None:
    for phase in ("train", "deploy"):
        spec = read(f"{folder}/{phase}.prototxt")
        assert [layer.name for layer in spec.layers if layer.params] == names


@pytest.mark.parametrize(
    ("folder", "rates"),
    [("deeplab_v2_vgg16_aspp_s", [2, 4, 8, 12]), ("deeplab_v2_vgg16_aspp", [6, 12, 18, 24])],
)
def test_the_pyramids_rates(folder: str, rates: list[int]) -> None:
    """ASPP-S and ASPP-L as the TPAMI paper defines them."""
    for phase in ("train", "test", "deploy"):
        layers = {layer.name: layer.message for layer in read(f"{folder}/{phase}.prototxt").layers}
        found = [layers[f"fc6_{i}"].convolution_param for i in (1, 2, 3, 4)]
        assert [list(options.dilation) for options in found] == [[rate] for rate in rates]
        assert [list(options.pad) for options in found] == [[rate] for rate in rates]


@pytest.mark.parametrize(
    ("suffix", "kernel", "dilation"),
    [("", 1, []), ("_largefov", 3, [12]), ("_msc_largefov", 3, [12])],
)
def test_heads_of_one_convolution(suffix: str, kernel: int, dilation: list[int]) -> None:
    for phase in ("train", "test", "deploy"):
        spec = read(f"deeplab_v2_resnet101{suffix}/{phase}.prototxt")
        options = spec.layer("fc1_voc12").message.convolution_param
        assert (list(options.kernel_size), list(options.dilation)) == ([kernel], dilation)


def test_msc_largefov_is_the_published_text() -> None:
    """Facts of the prototxts that the authors published as DeepLab-MSc-LargeFOV."""
    train, test = (read(f"deeplab_v1_msc_largefov/{kind}.prototxt") for kind in ("train", "test"))
    for spec, strides in ((train, [8, 4, 2, 1, 1]), (test, [1, 1, 1, 1, 1])):
        found = [
            list(spec.layer(f"{bottom}_conv").message.convolution_param.stride) or [1]
            for bottom in ("data", "pool1", "pool2", "pool3", "pool4")
        ]
        assert found == [[stride] for stride in strides]
        assert spec.layer("fc_fusion").op.operation == "SUM"
    scores = ["data_ms", "pool1_ms", "pool2_ms", "pool3_ms", "pool4_ms", "fc8_voc12"]
    copied = {top: x.bottoms[0] for x in train.layers if x.type == "Split" for top in x.tops}
    assert [copied.get(b, b) for b in train.layer("fc_fusion").bottoms] == scores
    zooms = {"pool1": 2, "pool2": 4, "pool3": 8, "pool4": 8, "fc8": 8}
    for name, zoom in zooms.items():
        assert test.layer(f"{name}_interp").message.interp_param.zoom_factor == zoom
    learned = {x.name for x in train.layers if any(p.lr_mult for p in x.params)}
    assert learned == {
        f"{bottom}_{part}"
        for bottom in ("data", "pool1", "pool2", "pool3", "pool4")
        for part in ("conv", "fc", "ms")
    }
    fillers = {x.name: x.message.convolution_param.weight_filler for x in train.layers if x.params}
    deviations = {name: fillers[name].std for name in learned if name != "pool3_ms"}
    wanted = {name: 0.01 if name.endswith("_ms") else 0.001 for name in deviations}
    assert deviations == pytest.approx({**wanted, "pool4_fc": 0.005})
    assert fillers["pool3_ms"].type == "constant"


def stored(layer_names: dict[str, list[tuple[int, ...]]]) -> list[StoredLayer]:
    zero = np.zeros((), "f4")
    return [
        StoredLayer(name, "", tuple(StoredBlob(np.broadcast_to(zero, s)) for s in shapes))
        for name, shapes in layer_names.items()
    ]


@pytest.mark.parametrize("phase", ["train", "test", "deploy"])
@pytest.mark.parametrize(("net", "heads"), [("msc_aspp", 4), ("msc_largefov", 1), ("msc", 1)])
def test_three_scales_of_resnet_are_one_set_of_parameters(phase: str, net: str, heads: int) -> None:
    spec = read(f"deeplab_v2_resnet101_{net}/{phase}.prototxt")
    layers = {layer.name: layer for layer in spec.layers if layer.params}
    base = {name: x for name, x in layers.items() if all(p.owner is None for p in x.params)}
    assert len(layers) == 3 * len(base)
    assert sum(x.type == "Convolution" for x in base.values()) == 104 + heads
    for name, layer in layers.items():
        if name not in base:
            first = name.replace("_res075", "").replace("_res05", "")
            assert [p.owner for p in layer.params] == [(first, i) for i in range(len(layer.params))]
    # Caffe's binary file holds a copy for every user; all of them must find their place
    file = stored({name: [p.shape for p in x.params] for name, x in layers.items()})
    match(spec, file).check(strict=True)
    if heads == 4:
        assert layers["fc1_voc12_c3"].params[0].shape == (21, 2048, 3, 3)
    assert layers["bn4b22_branch2a"].params[2].shape == (1,)


@pytest.mark.parametrize("net", ["deeplab_v1_largefov", "deeplab_v1_msc_largefov"])
def test_hole_text_is_the_same_net(net: str) -> None:
    folder = ZOO / net
    hole, plain = (
        read_net(folder / f"train{suffix}.prototxt", VARIABLES) for suffix in ("_hole", "")
    )
    assert "hole: 12" in (folder / "train_hole.prototxt").read_text()
    assert leave_v1(hole) == []
    assert hole == plain


def test_training_recipes() -> None:
    def solver(folder: str, name: str = "solver") -> caffe_pb2.SolverParameter:
        return read_solver(ZOO / folder / f"{name}.prototxt", VARIABLES)

    for net, name, max_iter in (
        ("deeplab_v1_largefov", "solver", 6000), ("deeplab_v1_largefov", "solver2", 8000),
        ("deeplab_v1_msc_largefov", "solver", 6000), ("deeplab_v1_msc_largefov", "solver2", 8000),
    ):  # fmt: skip
        step = solver(net, name)
        assert (step.lr_policy, step.stepsize, step.max_iter) == ("step", 2000, max_iter)
        assert step.base_lr == pytest.approx(0.001)
    assert solver("deeplab_v1_msc_largefov").average_loss == 10
    for net in ("", "_largefov", "_aspp", "_msc", "_msc_largefov", "_msc_aspp"):
        poly = solver(f"deeplab_v2_resnet101{net}")
        assert (poly.lr_policy, poly.iter_size, poly.max_iter) == ("poly", 10, 20000)
        assert (poly.base_lr, poly.power) == (pytest.approx(2.5e-4), pytest.approx(0.9))
    for kind, rate in (("32s", 1e-10), ("16s", 1e-12), ("8s", 1e-14), ("alexnet", 1e-4)):
        assert solver(f"fcn_{kind}").base_lr == pytest.approx(rate)


def test_the_readme_names_every_folder() -> None:
    text = (ZOO / "README.md").read_text()
    assert [name for name in PARAMETERS if f"`{name}/`" not in text] == []


def test_the_third_top_of_image_seg_data_may_be_left_out() -> None:
    spec = read("deeplab_v1_largefov/train.prototxt")
    data, loss = spec.layer("data"), spec.layer("loss")
    assert data.tops[2:] == ("(automatic)",)
    assert spec.shapes["(automatic)"] == (30, 1, 1, 2)
    assert data.loss_weights == (0, 0, 0)
    assert loss.tops == ("(automatic) of loss",)
    assert loss.loss_weights == (1,)
