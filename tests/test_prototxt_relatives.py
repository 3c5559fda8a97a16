"""The networks in prototxt/ beside DeepLab's and FCN's: sizes, names, shapes, thin forward passes.

The layers were compared with the published prototxts by name, type, bottoms, tops and options; here
are the facts of those that a change must not break.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, read_net, read_solver
from caffe_port.spec import NetSpec
from tests.test_prototxt_zoo import VARIABLES, VGG, VGG16, ZOO

FOLDERS = ["bayesian_segnet", "crfrnn", "deconvnet", "dilatednet_context", "dilatednet_frontend",
           "enet", "hed", "icnet", "pspnet101_cityscapes", "pspnet101_voc2012",
           "pspnet50_ade20k", "segnet"]  # fmt: skip
NETS = sorted(
    str(path.relative_to(ZOO))
    for folder in FOLDERS
    for path in (ZOO / folder).glob("*.prototxt")
    if "solver" not in path.name
)
# Parameters of all layers. Where papers say them: SegNet 29.45 M (arXiv 1511.00561, table 7), ENet
# 0.37 M (arXiv 1606.02147, table 4), HED's caffemodel of 56 MB. The others are of the prototxts.
_SEGNET = 29_449_355
PARAMETERS = {
    "segnet": _SEGNET,
    "bayesian_segnet": _SEGNET,
    # biases, kernel weights of two Gaussians, compatibilities; score2 (with bias), score4, upsample
    "crfrnn": VGG16 + 119_545_856 + 4097 * 21 + 513 * 21 + 257 * 21 + 3 * 441
    + (16 * 441 + 21) + 16 * 441 + 256 * 441,
    "enet": 372_551,
    "deconvnet": 251_805_653,
    "pspnet50_ade20k": 46_841_174,
    "pspnet101_voc2012": 65_819_349,
    "pspnet101_cityscapes": 65_818_323,
    "icnet": 6_685_718,
    "dilatednet_frontend": VGG16 + 119_545_856 + 4097 * 21,
    "dilatednet_context": 141_149_720,
    # side outputs, fusion, enlarging by 2, 4, 8 and 16 (one bias each)
    "hed": VGG16 + (64 + 128 + 256 + 512 + 512 + 5) + 6 + (16 + 64 + 256 + 1024 + 4),
}  # fmt: skip
ENET_ENCODER = 350_207  # with its own classifier, before the decoder is added
# what ENet's train nets name, as far as building them needs it
SPATIAL_DROPOUT = """
import caffe

class SpatialDropoutLayer(caffe.Layer):
    def setup(self, bottom, top):
        assert "'p': '0." in self.param_str

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
"""


@pytest.fixture(autouse=True)
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists that the train nets name, with one image."""
    folder = tmp_path / "voc12" / "list"
    folder.mkdir(parents=True)
    (folder / "train_aug.txt").write_text("/a.png /b.png\n")
    (tmp_path / "voc12" / "train_aug.txt").write_text("voc12/a.png voc12/b.png\n")
    Image.new("RGB", (480, 360)).save(tmp_path / "voc12" / "a.png")
    Image.new("L", (480, 360)).save(tmp_path / "voc12" / "b.png")
    (tmp_path / "spatial_dropout.py").write_text(SPATIAL_DROPOUT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


@cache
def read(name: str) -> NetSpec:
    phase = "TRAIN" if "train" in name else "TEST"
    return NetSpec.read(
        ZOO / name, phase=phase, variables=VARIABLES, allow_python_layers=name.startswith("enet")
    )


def size(spec: NetSpec) -> int:
    return sum(math.prod(p.shape) for x in spec.layers for p in x.params if p.owner is None)


@pytest.mark.parametrize("name", NETS)
def test_builds_with_the_published_number_of_parameters(name: str) -> None:
    spec = read(name)
    assert spec.unknown == ()
    wanted = PARAMETERS[Path(name).parts[0]]
    if name == "icnet/deploy_bn.prototxt":
        # BN's four blobs in place of a bias for each channel
        wanted += 3 * sum(x.params[0].shape[1] for x in spec.layers if x.type == "BN")
    if name == "enet/train_encoder.prototxt":
        wanted = ENET_ENCODER
    assert size(spec) == wanted


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("hed", [*VGG, *(f"score-dsn{i}" for i in range(1, 6)), *(f"upsample_{2**i}" for i in
                 range(1, 5)), "new-score-weighting"]),
        ("crfrnn", [*VGG, "fc6", "fc7", "score-fr", "score2", "score-pool4", "score4",
                    "score-pool3", "upsample", "inference1"]),
        ("dilatednet_frontend", [*VGG, "fc6", "fc7", "fc-final"]),
        ("dilatednet_context",
         [*VGG, "fc6", "fc7", "fc-final", "ct_conv1_1", "ct_conv1_2", "ct_conv2_1", "ct_conv3_1",
          "ct_conv4_1", "ct_conv5_1", "ct_fc1", "ct_final"]),
        ("segnet", [name for conv in [*VGG, *(f"{conv}_D" for conv in VGG)]
                    for name in (conv, f"{conv}_bn") if name != "conv1_1_D_bn"]),
    ],
)  # fmt: skip
def test_layers_with_weights_have_the_published_names(folder: str, names: list[str]) -> None:
    spec = read(f"{folder}/deploy.prototxt")
    assert sorted(x.name for x in spec.layers if x.params) == sorted(names)


@pytest.mark.parametrize(
    ("folder", "bns", "convolutions", "some"),
    [
        ("pspnet50_ade20k", 60, 61, ("conv4_6_1x1_reduce/bn", "conv5_3_pool6_conv", "conv5_4/bn")),
        ("pspnet101_voc2012", 111, 112, ("conv4_23_3x3/bn", "conv5_3_pool1_conv/bn", "conv6")),
        ("icnet", 0, 64, ("conv3_1_sub2_proj", "conv3_sub1_proj", "conv_sub4", "conv6_cls")),
        ("enet", 86, 88, ("conv2_3_1_a", "bn0_1", "conv5_0_4", "conv3_8_2")),
    ],
)
def test_numbers_of_layers_with_weights(
    folder: str, bns: int, convolutions: int, some: tuple[str, ...]
) -> None:
    spec = read(f"{folder}/deploy.prototxt")
    types = [x.type for x in spec.layers if x.params]
    assert (types.count("BN"), types.count("Convolution")) == (bns, convolutions)
    assert {x.name for x in spec.layers if x.params} >= set(some)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("crfrnn/deploy.prototxt", {"score": (1, 21, 16, 16), "coarse": (1, 21, 500, 500),
                                    "pred": (1, 21, 500, 500)}),
        ("segnet/deploy.prototxt", {"pool5": (1, 512, 12, 15), "pool5_D": (1, 512, 23, 30),
                                    "pool4_D": (1, 512, 45, 60), "prob": (1, 11, 360, 480)}),
        ("bayesian_segnet/deploy.prototxt", {"prob": (10, 11, 360, 480)}),
        ("enet/deploy.prototxt", {"prelu3_8_4": (1, 128, 64, 128),
                                  "deconv6_0_0": (1, 19, 512, 1024)}),
        ("pspnet50_ade20k/deploy.prototxt",
         {"conv5_3": (1, 2048, 60, 60), "conv5_3_pool6": (1, 2048, 6, 6),
          "conv5_3_concat": (1, 4096, 60, 60), "conv6_interp": (1, 150, 473, 473)}),
        ("pspnet101_cityscapes/deploy.prototxt",
         {"conv5_3": (1, 2048, 90, 90), "conv6_interp": (1, 19, 713, 713)}),
        ("icnet/deploy.prototxt",
         {"conv5_3": (1, 1024, 33, 65), "conv5_3_pool3": (1, 1024, 3, 3),
          "sub24_sum": (1, 128, 65, 129), "sub12_sum": (1, 128, 129, 257),
          "conv6_interp": (1, 19, 1025, 2049)}),
        ("dilatednet_context/deploy.prototxt",
         {"fc-final": (1, 21, 66, 66), "ct_conv5_1": (1, 672, 68, 68), "prob": (1, 21, 66, 66)}),
        ("deconvnet/deploy.prototxt",
         {"fc7": (1, 4096, 1, 1), "fc6-deconv": (1, 512, 7, 7), "unpool5": (1, 512, 14, 14),
          "seg-score": (1, 21, 224, 224)}),
        ("deconvnet/train.prototxt", {"data": (8, 3, 224, 224), "seg-label": (8, 1, 224, 224)}),
        ("hed/train.prototxt", {"data": (1, 3, 360, 480), "label": (1, 1, 360, 480)}),
        ("segnet/train.prototxt", {"data": (4, 3, 360, 480), "label": (4, 1, 360, 480)}),
        ("enet/train_encoder.prototxt",
         {"data": (4, 3, 512, 1024), "label": (4, 1, 64, 128),
          "deconv_encoder6_0_0": (4, 19, 64, 128)}),
        ("enet/train.prototxt",
         {"label": (3, 1, 512, 1024), "deconv6_0_0": (3, 19, 512, 1024)}),
        ("hed/deploy.prototxt", {"score-dsn5": (1, 1, 36, 36), "sigmoid-fuse": (1, 1, 500, 500)}),
    ],
)  # fmt: skip
def test_shapes_at_the_published_input(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    spec = read(name)
    assert {blob: spec.shapes[blob] for blob in shapes} == shapes


def narrowed(name: str) -> caffe_pb2.NetParameter:
    """The net with a sixteenth of its channels (ENet: a quarter); the labels stay as they are."""
    message = read_net(ZOO / name, VARIABLES)
    factor = 4 if name.startswith("enet") else 16
    for layer in message.layer:
        options = layer.convolution_param
        if layer.name == "conv0_1":
            options.num_output = 16 // factor - 3  # concatenated with the image
        elif options.num_output >= factor and options.num_output not in (11, 19, 21, 150):
            options.num_output //= factor
    return message


def thin(name: str) -> Net:
    """The narrowed net with convolutions that keep the size of values, and statistics of BN."""
    net = Net(NetSpec.build(narrowed(name), phase="TEST"), fill=True)
    generator = torch.Generator().manual_seed(0)
    for layer in net.spec.layers:
        for i, param in enumerate(net.layer_params(layer.name) if layer.params else []):
            with torch.no_grad():
                if layer.type in ("Convolution", "Deconvolution") and i == 0:
                    deviation = math.sqrt(2 / math.prod(param.shape[1:]))
                    param.normal_(0, deviation, generator=generator)
                elif layer.type == "BN":
                    param.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def image(net: Net) -> torch.Tensor:
    shape = net.spec.shapes["data"]
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in NETS if "train" not in name])
def test_a_thin_net_runs(name: str) -> None:
    net = thin(name)
    with torch.inference_mode():
        outputs = net({"data": image(net)})
    (top,) = net.spec.layers[-1].tops
    scores = outputs[top]
    assert tuple(scores.shape) == net.spec.shapes[top]
    assert torch.isfinite(scores).all()
    # the scores depend on the pixel, in every channel
    assert (scores.flatten(2).std(-1) > 0).all()


def test_icnet_with_merged_batch_normalization_is_the_same_net() -> None:
    """Scores equal those with BN, when each convolution has the weights of both."""
    apart, merged = thin("icnet/deploy_bn.prototxt"), thin("icnet/deploy.prototxt")
    for layer in merged.spec.layers:
        if layer.type != "Convolution":
            continue
        own, given = merged.layer_params(layer.name), apart.layer_params(layer.name)
        with torch.no_grad():
            if layer.name == "conv6_cls":
                own[0].copy_(given[0])
                own[1].copy_(given[1])
                continue
            scale, shift, mean, variance = (
                blob.flatten() for blob in apart.layer_params(f"{layer.name}/bn")
            )
            factor = scale / torch.sqrt(variance + 1e-5)
            own[0].copy_(given[0] * factor[:, None, None, None])
            own[1].copy_(shift - mean * factor)
    data = image(merged)
    with torch.inference_mode():
        wanted, found = (net({"data": data})["conv6_interp"] for net in (apart, merged))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.abs().max())


def test_solvers_are_the_published_ones() -> None:
    def solver(name: str) -> caffe_pb2.SolverParameter:
        return read_solver(ZOO / f"{name}.prototxt", VARIABLES)

    hed = solver("hed/solver")
    assert (hed.lr_policy, hed.stepsize, hed.iter_size, hed.max_iter) == ("step", 10000, 10, 30001)
    assert (hed.base_lr, hed.weight_decay) == (pytest.approx(1e-6), pytest.approx(2e-4))
    for name, max_iter in (("segnet", 40000), ("bayesian_segnet", 60000)):
        found = solver(f"{name}/solver")
        assert (found.base_lr, found.max_iter) == (pytest.approx(0.001), max_iter)
    for name in ("solver", "solver_encoder"):
        enet = solver(f"enet/{name}")
        assert (enet.type, list(enet.stepvalue), enet.max_iter) == (
            "Adam", [18750, 37500, 56250], 75000,
        )  # fmt: skip
    deconvnet = solver("deconvnet/solver")
    assert (deconvnet.base_lr, deconvnet.stepsize) == (pytest.approx(0.01), 9000)


def test_the_readme_names_every_folder() -> None:
    text = (ZOO / "README.md").read_text()
    assert [name for name in FOLDERS if f"`{name}/`" not in text] == []
