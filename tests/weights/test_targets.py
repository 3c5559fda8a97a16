"""State dicts with the names of other programs: there and back, and in their own modules."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from click.testing import CliRunner

import caffe_port as cp
from caffe_port.cli import main
from caffe_port.weights import load_named_state, named_state
from tests.docs.pages import blocks
from tests.goldens_dir import ROOT
from tests.weights.residual import (
    deeplab_text,
    fill_at_random,
    random_net,
    resnet_text,
    vgg_text,
)  # fmt: skip
from tests.weights.targets import (
    IshtScales,
    KazutoScales,
    ResNet,
    TimmVGG,
    TorchvisionVGG,
    kazuto_base,
)

THIN = 8
#: name map, prototxt and target module for a width
CASES = {
    "kazuto1011": ("kazuto1011", deeplab_text, KazutoScales),
    "isht7": ("isht7", deeplab_text, IshtScales),
    "torchvision": ("torchvision", resnet_text, ResNet),
    "timm": ("timm", resnet_text, ResNet),
}
VGG = {
    "torchvision_vgg16": ("torchvision", vgg_text, TorchvisionVGG),
    "timm_vgg16": ("timm", vgg_text, TimmVGG),
}
ALL = CASES | VGG


def run(*args):
    result = CliRunner().invoke(main, ["convert", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.output


def bits(net):
    return {name: values.detach().numpy().tobytes() for name, values in net.named_parameters()}


def published(case):
    """The target at its published size, without memory."""
    with torch.device("meta"):
        return ALL[case][2]()


@pytest.mark.parametrize(
    ("case", "suffix"),
    [("kazuto1011", "pth"), ("isht7", "safetensors"), ("torchvision", "pt"), ("timm", "pth"),
     ("torchvision_vgg16", "safetensors"), ("timm_vgg16", "pth")],
)  # fmt: skip
def test_a_caffemodel_there_and_back_is_the_same_file(tmp_path, case, suffix):
    names, text, _ = ALL[case]
    net = random_net(text(THIN) if case in CASES else text(4, 16))
    prototxt, other = tmp_path / "net.prototxt", tmp_path / f"x.{suffix}"
    first, back = tmp_path / "first.caffemodel", tmp_path / "back.caffemodel"
    prototxt.write_text(net.spec.text)
    net.save(first)
    run(prototxt, first, "-o", other, "--names", names)
    # the file remembers whose names it has
    run(prototxt, other, "-o", back, *(["--names", names] if suffix == "pth" else []))
    assert back.read_bytes() == first.read_bytes()


@cache
def thin_pair(text):
    """Two nets; built once, as it takes longer than what is tested."""
    net = random_net(text(THIN))
    return net, cp.Net(net.spec, fill=False)


@pytest.mark.parametrize("factor", [1, 999.98, 3, 0, 1e-30, float("nan")])
@pytest.mark.parametrize("case", CASES)
def test_any_factor_of_batch_norm_there_and_back(case, factor):
    names, text, _ = CASES[case]
    net, back = thin_pair(text)
    fill_at_random(net, factor=factor)
    with torch.no_grad():
        for values in back.parameters():
            values.fill_(7)
    load_named_state(back, named_state(net, names), names)
    assert bits(back) == bits(net)


@pytest.mark.parametrize("case", CASES)
def test_full_size_fits_the_published_module_and_comes_back(case):
    names, text, _ = ALL[case]
    net = random_net(text())
    state = named_state(net, names)
    want = {key: values.shape for key, values in published(case).state_dict().items()}
    assert {key: values.shape for key, values in state.items()} == want
    before = bits(net)
    with torch.no_grad():
        for values in net.parameters():
            values.fill_(7)
    load_named_state(net, state, names)
    assert bits(net) == before


@pytest.mark.parametrize(
    ("case", "count"),
    [("torchvision", 44_549_160), ("torchvision_vgg16", 138_357_544), ("timm_vgg16", 138_357_544)],
)
def test_the_targets_have_the_published_number_of_parameters(case, count):
    assert sum(values.numel() for values in published(case).parameters()) == count


def difference(found, want):
    """The largest difference, relative to the peak, of blobs that are not all alike."""
    assert found.shape == want.shape
    assert float(want.std() / want.abs().max()) > 0.01
    return float((found - want).abs().max() / want.abs().max())


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 65, 65, generator=torch.Generator().manual_seed(1)) * 200 - 100


@pytest.fixture(scope="module")
def deeplab():
    return random_net(deeplab_text(THIN))


def test_kazuto_base_net_computes_the_scores_of_scale_1(deeplab, image):
    module = KazutoScales(THIN)
    module.load_state_dict(named_state(deeplab, "kazuto1011"))
    with torch.no_grad():
        want = deeplab({"data": image}, keep=["fc1_voc12"])["fc1_voc12"]
        assert difference(module.base.eval()(image), want) < 1e-6


def test_isht7_computes_the_fused_scores(deeplab, image):
    module = IshtScales(THIN)
    module.load_state_dict(named_state(deeplab, "isht7"))
    with torch.no_grad():
        want = deeplab({"data": image}, keep=["fc_fusion"])["fc_fusion"]
        assert difference(module.eval()(image), want) < 1e-6


@pytest.mark.parametrize("names", ["torchvision", "timm"])
@pytest.mark.parametrize("strides", [(1, 2, 2, 2), (1, 2, 1, 1)])
def test_a_backbone_computes_res5c_with_caffes_strides_and_dilations(names, strides, image):
    dilations = (1, 1, 1, 1) if strides[3] == 2 else (1, 1, 2, 4)
    net = random_net(resnet_text(THIN, 0, 65, strides, dilations, pool_pad=2 - strides[3]))
    with torch.no_grad():
        want = net({"data": image})["res5c"]
        module = ResNet(THIN, 0)
        module.load_state_dict(named_state(net, names))
        found = module.eval().features(image)
        assert found.shape != want.shape or difference(found, want) > 0.01
        as_caffe(module, deeplab=strides[3] == 1)
        assert difference(module.features(image), want) < 1e-6


def as_caffe(module, deeplab):
    """The changes that docs/coming_from.md shows."""
    page = ROOT / "docs" / "coming_from.md"
    (block,) = (block.text for block in blocks(page) if "def as_caffe" in block.text)
    names = {}
    exec(block, names)
    names["as_caffe"](module, deeplab)


@pytest.mark.parametrize("case", VGG)
def test_vgg16_computes_the_classes(case):
    names, text, target = VGG[case]
    net = random_net(text(2, 16, 10))
    module = target(2, 16, 10)
    module.load_state_dict(named_state(net, names))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert difference(module.eval()(x), net({"data": x})["fc8"]) < 1e-6


def test_the_weights_that_a_module_trained_come_back(deeplab):
    module = KazutoScales(THIN)
    module.load_state_dict(named_state(deeplab, "kazuto1011"))
    with torch.no_grad():
        module.base.layer1.conv1.bn.running_mean += 0.5
        module.base.layer5.block3.increase.conv.weight *= 2
    back = cp.Net(deeplab.spec, fill=False)
    load_named_state(back, module.state_dict(), "kazuto1011")
    mean, variance, factor = back.layer_params("bn_conv1")
    assert factor.item() == 1
    assert torch.equal(mean, module.base.layer1.conv1.bn.running_mean)
    assert torch.equal(variance, module.base.layer1.conv1.bn.running_var)
    (weight,) = back.layer_params("res5c_branch2c")
    assert torch.equal(weight, 2 * deeplab.layer_params("res5c_branch2c")[0])


def test_the_base_net_alone_without_the_prefix(deeplab):
    state = named_state(deeplab, "kazuto1011")
    base = kazuto_base(THIN)
    base.load_state_dict({key.removeprefix("base."): values for key, values in state.items()})
    back = cp.Net(deeplab.spec, fill=False)
    load_named_state(back, base.state_dict(), "kazuto1011")
    assert torch.equal(back.layer_params("conv1")[0], deeplab.layer_params("conv1")[0])


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_installed_library_has_these_names(library):
    try:
        models = pytest.importorskip(f"{library}.models")
    except RuntimeError as error:  # built for another torch
        pytest.skip(f"{library} cannot be imported: {error}")
    with torch.device("meta"):
        own = models.resnet101().state_dict()
        vgg = models.vgg16().state_dict()
    for case, found in ((library, own), (f"{library}_vgg16", vgg)):
        want = {key: values.shape for key, values in published(case).state_dict().items()}
        assert {key: values.shape for key, values in found.items()} == want
