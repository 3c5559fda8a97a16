"""What torch's users do with any module: dtypes, layouts, hooks, functional calls, freezing."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_port as cp
from caffe_port.blobs import Blobs
from tests.any_net.draft import kinds
from tests.goldens_dir import ROOT
from tests.layers.helpers import net_of
from tests.spec.making import layer
from tests.torch_module.nets import image, losing, of_kind, run, same, segmenting

SHAPES = ROOT / "examples/shapes_voc"
HALVES = [torch.float16, torch.bfloat16]
# losses are sums over many pixels
LOSSES = {"SoftmaxWithLoss", "SoftmaxWithLossOHEM", "FeedbackLoss"}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_layer_in_half_precision(kind, dtype):
    net, inputs = of_kind(kind)
    blobs = run(net.to(dtype), {name: data.to(dtype) for name, data in inputs.items()})
    wide = {x.tops[0] for x in net.spec.layers if x.type in LOSSES}
    if not list(net.parameters()):  # its own data has no dtype to follow
        wide |= {top for x in net.spec.layers if x.type == "DummyData" for top in x.tops}
        wide |= {top for x in net.spec.layers if wide & set(x.bottoms) for top in x.tops}
    for name, blob in blobs.items():
        assert blob.dtype == (torch.float32 if name in wide else dtype), name


def photographs(count):
    """Images of the validation set as the network takes them: BGR less the mean, padded with 0."""
    made = torch.zeros(count, 3, 161, 161)
    names = (SHAPES / "val_id.txt").read_text().split()[:count]
    for i, name in enumerate(names):
        rgb = np.asarray(Image.open(SHAPES / f"JPEGImages/{name}.jpg").convert("RGB"), np.float32)
        bgr = torch.from_numpy(rgb[:161, :161, ::-1] - np.float32([104.008, 116.669, 122.675]))
        made[i, :, : bgr.shape[0], : bgr.shape[1]] = bgr.permute(2, 0, 1)
    return made


@pytest.fixture(scope="module")
def shapes_net():
    recording = SHAPES / "caffe_run/recording/net.prototxt"
    return cp.load(recording, SHAPES / "caffe_run/model/train_iter_2400.caffemodel")


def changed(found, wanted):
    """The share of pixels with another label."""
    return float((found.argmax(1) != wanted.argmax(1)).float().mean())


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 2e-4), (torch.bfloat16, 1.2e-3)])
def test_labels_in_half_precision(shapes_net, dtype, most):
    """Over all 60 images 0.006 and 0.054 % of the labels change."""
    with torch.no_grad():
        x = photographs(3)
        wanted = shapes_net(x)["fc8_interp"]
        half = copy.deepcopy(shapes_net).to(dtype)(x.to(dtype))["fc8_interp"]
        assert half.dtype == dtype
        assert 0 < changed(half, wanted) < most
        with torch.autocast("cpu", dtype):
            assert 0 < changed(shapes_net(x)["fc8_interp"], wanted) < most


def test_channels_last():
    net = segmenting().to(memory_format=torch.channels_last)
    weight = net.layer_params("c1")[0]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    blobs = net(image().to(memory_format=torch.channels_last), keep=["c2", "up"])
    assert blobs["c2"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(blobs["up"], segmenting()(image())["up"], rtol=1e-5, atol=1e-6)


def test_functional_call():
    net = segmenting()
    doubled = {name: 2 * blob for name, blob in net.named_parameters()}
    found = torch.func.functional_call(net, doubled, (image(),))
    wanted = segmenting()
    wanted.load_state_dict(doubled)
    same(found, wanted(image()))

    def loss(parameters):
        return torch.func.functional_call(net, parameters, (image(),))["up"].square().sum()

    grads = torch.func.grad(loss)(dict(net.named_parameters()))
    loss(dict(net.named_parameters())).backward()
    for name, blob in net.named_parameters():
        torch.testing.assert_close(grads[name], blob.grad, rtol=1e-5, atol=1e-6)


def test_state_dict_is_strict():
    net = segmenting()
    state = net.state_dict()
    names = [f"{layer}.{blob}" for layer in ("c1", "c2", "fc") for blob in ("weight", "bias")]
    assert list(state) == [name for name, _ in net.named_parameters()] == names
    del state["c2.bias"]
    state["c3.bias"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert 'Missing key(s) in state_dict: "c2.bias"' in str(caught.value)
    assert 'Unexpected key(s) in state_dict: "c3.bias"' in str(caught.value)
    found = net.load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["c2.bias"], ["c3.bias"])
    state = {**net.state_dict(), "c2.bias": torch.zeros(5)}
    with pytest.raises(RuntimeError, match=r"size mismatch for c2\.bias"):
        net.load_state_dict(state, strict=False)


def test_named_modules_are_the_layers():
    net = segmenting()
    assert [name for name, _ in net.named_children()] == [layer.name for layer in net.spec.layers]
    assert net.get_submodule("c1") is net.module("c1")
    assert net.get_parameter("c1.weight") is net.layer_params("c1")[0]


def test_hooks_of_the_net_and_of_its_layers():
    net, seen = segmenting(), {}
    net.register_forward_pre_hook(lambda m, given: seen.update(net_in=given))
    net.register_forward_hook(lambda m, given, blobs: seen.update(net_out=blobs))
    net.c1.register_forward_hook(lambda m, given, tops: seen.update(c1=(given, tops)))
    net.fc.register_full_backward_hook(lambda m, down, up: seen.update(fc=(down, up)))
    net.get_submodule("r2").register_forward_hook(lambda m, given, tops: (tops[0] * 2,))
    found = net(image())
    assert seen["net_in"][0] is not None
    assert isinstance(seen["net_out"], Blobs)
    (given,), (top,) = seen["c1"]
    assert torch.equal(given, image())
    assert top.shape == (2, 4, 9, 11)
    plain = segmenting()
    doubled = plain.run_layer("fc", [plain(image(), keep=["c2"])["c2"] * 2])
    assert torch.equal(found["up"], plain.run_layer("up", doubled)[0])
    found["up"].sum().backward()
    (down,), (up,) = seen["fc"]
    assert down.shape == (2, 4, 5, 6)
    assert up.shape == (2, 3, 5, 6)


def test_hooks_that_change_inputs_and_outputs():
    net = segmenting()
    net.register_forward_pre_hook(lambda m, given: (given[0] * 2,))
    net.register_forward_hook(lambda m, given, blobs: blobs["up"])
    assert torch.equal(net(image()), segmenting()(image() * 2)["up"])


def test_train_and_eval_leave_the_phase():
    text = layer("d", "Dropout", "b0", "d")
    net = net_of(text, (2, 3, 9, 11))
    assert net.training
    assert not net.eval().training
    assert not net.module("d").training
    same(net.train()(image()), net.eval()(image()))


def test_requires_grad_freezes_and_is_what_backward_fills():
    net, inputs = losing()
    net.requires_grad_(False)
    net.fc.requires_grad_(True)
    net(inputs)["loss"].backward()
    with_grad = [name for name, blob in net.named_parameters() if blob.grad is not None]
    assert with_grad == ["fc.weight", "fc.bias"]
    net.zero_grad(set_to_none=True)
    assert net.get_parameter("fc.weight").grad is None


def test_torchs_optimizer_learns():
    net, inputs = losing()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = net(inputs)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]


def test_meta_device_and_to_empty():
    net = segmenting()
    there = copy.deepcopy(net).to("meta")
    assert there(image().to("meta"))["up"].shape == (2, 3, 9, 11)
    back = there.to_empty(device="cpu")
    back.load_state_dict(net.state_dict())
    same(back(image()), net(image()))


def test_several_inputs_by_name():
    net, inputs = losing()
    assert set(net(inputs)) == {"loss", "up"}
    assert set(net(inputs=inputs, keep=["fc"])) == {"fc"}


def test_the_module_of_plain_torch_is_quantized_by_torch_ao(shapes_net, tmp_path):
    """The recipe of docs/pytorch.md. Over all 60 images 0.8 % of the labels change."""
    from torch.ao import quantization

    engine = torch.backends.quantized.engine
    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch has no quantized operators for this machine")
    cp.export.emit_module(shapes_net, tmp_path / "largefov.py")
    names: dict[str, object] = {"__name__": "largefov"}
    exec((tmp_path / "largefov.py").read_text(), names)
    module = names["ShapesLargefov"]().eval()
    module.load_state_dict(torch.load(tmp_path / "largefov.state.pt", weights_only=True))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it moves this to another package
        torch.backends.quantized.engine = "x86"
        try:
            small = quantization.QuantWrapper(module)
            small.qconfig = quantization.get_default_qconfig("x86")
            quantization.prepare(small, inplace=True)
            small(photographs(4))
            quantization.convert(small, inplace=True)
            found = small(photographs(3))
        finally:
            torch.backends.quantized.engine = engine
        assert 0 < changed(found, shapes_net(photographs(3))["fc8_interp"]) < 0.03


def test_the_onnx_file_is_quantized_by_onnxruntime(shapes_net, tmp_path):
    """The recipe of docs/pytorch.md. Over all 60 images 0.33 % of the labels change."""
    onnxruntime = pytest.importorskip("onnxruntime")
    tools = pytest.importorskip("onnxruntime.quantization")
    full, small = tmp_path / "largefov.onnx", tmp_path / "int8.onnx"
    cp.export.write_onnx(shapes_net, full)

    class Reader(tools.CalibrationDataReader):
        rows = iter(photographs(4).split(1))

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"data": row.numpy()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tools.quantize_static(full, small, Reader(), op_types_to_quantize=["Conv"])
    assert small.stat().st_size < full.stat().st_size / 3
    session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
    found = [session.run(None, {"data": x.numpy()})[0] for x in photographs(3).split(1)]
    with torch.no_grad():
        wanted = shapes_net(photographs(3))["fc8_interp"]
    assert 0 < changed(torch.from_numpy(np.concatenate(found)), wanted) < 0.015


def test_the_documentation_names_these_tests():
    named = set(re.findall(r"`(test_\w+)", (ROOT / "docs/pytorch.md").read_text(encoding="utf-8")))
    files = (ROOT / "tests/torch_module").glob("test_*.py")
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    defined = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert named <= defined
    assert len(named) > 25
