"""The whole of pycaffe's Net: forms of the constructor, private names, callbacks, sharing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_port.pycaffe as caffe
from caffe_port.errors import LayerError, UsageError
from caffe_port.pycaffe import _caffe
from caffe_port.solver import log as glog
from tests.pycaffe.nets import IMAGES, SMALL, write
from tests.pycaffe.nets import solver as make_solver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "net.prototxt", SMALL)


def fill(net: caffe.Net) -> None:
    random = np.random.default_rng(0)
    for name in net.inputs:
        net.blobs[name].data[...] = random.random(net.blobs[name].data.shape)


def test_forms_of_the_constructor(path: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w"
    first = caffe.Net(str(path), caffe.TRAIN)
    first.params["ip"][0].data[...] = 7
    first.save(weights)
    made = [
        caffe.Net(network_file=path, phase=caffe.TEST, weights=weights),
        caffe.Net(path, caffe.TEST, 0, None, str(weights)),
        caffe.Net(path, caffe.TEST, level=1, stages=["a"], weights=weights),
        caffe.Net(path, str(weights), caffe.TEST),
        caffe.Net(path, weights),
    ]
    assert [net.params["ip"][0].data[0, 0] for net in made] == [7] * 5
    assert {net._net.spec.phase for net in made} == {"TEST"}


@pytest.mark.parametrize("args", [(), (7,), ("w", 0, 1), (0, 0, None, None, 1), ("w", None)])
def test_other_forms_are_refused(path: Path, args: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match=r"phase is|expected Net\(prototxt"):
        caffe.Net(path, *args)


def test_names_and_numbers_of_the_compiled_module(path: Path) -> None:
    net = caffe.Net(path, caffe.TRAIN)
    assert net._layer_names == ["x", "t", "ip", "loss"]
    assert net._blob_names == ["x", "t", "ip", "loss"]
    assert (net._inputs, net._outputs) == ([0, 1], [3])
    assert (net._bottom_ids(3), net._top_ids(2)) == ([2, 1], [2])
    assert net._blobs[2] is net.blobs["ip"]
    assert net._blob_loss_weights == [0, 0, 0, 1]
    assert net.layers[2] is net.layer_dict["ip"]
    assert net.layers[2].blobs is net.params["ip"]


def test_callbacks(path: Path) -> None:
    net = caffe.Net(path, caffe.TRAIN)
    seen: list[tuple[str, int]] = []
    for event in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, event)(lambda layer, event=event: seen.append((event, layer)))
    net.forward(start="ip", end="ip")
    net.backward(start="loss", end="ip")
    assert seen == [
        ("before_forward", 2), ("after_forward", 2), ("before_backward", 3),
        ("after_backward", 3), ("before_backward", 2), ("after_backward", 2),
    ]  # fmt: skip


def test_a_callback_may_change_blobs(path: Path) -> None:
    net = caffe.Net(path, caffe.TRAIN)
    fill(net)
    net.before_forward(lambda layer: net.blobs["x"].data.fill(0) if layer == 2 else None)
    np.testing.assert_array_equal(net.forward(blobs=["ip"])["ip"], 0)


def test_backward_without_forward_uses_what_the_blobs_hold(path: Path) -> None:
    net = caffe.Net(path, caffe.TRAIN)
    fill(net)
    net.blobs["ip"].diff[...] = np.arange(8).reshape(4, 2)
    found = net.backward(start="ip", end="ip")
    diff, x = net.blobs["ip"].diff, net.blobs["x"].data
    np.testing.assert_allclose(found["x"], diff @ net.params["ip"][0].data, rtol=1e-5)
    np.testing.assert_allclose(net.params["ip"][0].diff, diff.T @ x, rtol=1e-5)


def test_sharing_shares_data_and_keeps_diffs_apart(path: Path) -> None:
    one, two = caffe.Net(path, caffe.TRAIN), caffe.Net(path, caffe.TEST)
    held = two.params["ip"][0]
    two.share_with(one)
    one.params["ip"][0].data[...] = 3
    one.params["ip"][0].diff[...] = 4
    assert held is two.params["ip"][0]
    assert (held.data[0, 0], held.diff[0, 0]) == (3, 0)
    fill(two)
    wanted = two.blobs["x"].data.sum(1, keepdims=True) * 3
    np.testing.assert_allclose(two.forward(blobs=["ip"])["ip"], wanted.repeat(2, 1), rtol=1e-5)


def test_sharing_with_other_shapes_is_refused(path: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "o.prototxt", SMALL.replace("num_output: 2", "num_output: 2 axis: 0 ")
                  .replace("dim: 4 dim: 2", "dim: 2"))  # fmt: skip
    with pytest.raises(UsageError, match="layer 'ip' has parameters of other shapes"):
        caffe.Net(path, caffe.TRAIN).share_with(caffe.Net(other, caffe.TRAIN))


def test_a_parameter_of_another_shape_can_be_saved(path: Path, tmp_path: Path) -> None:
    net = caffe.Net(path, caffe.TRAIN)
    net.params["ip"][0].reshape(5, 3)
    net.params["ip"][0].data[...] = 2
    net.params["ip"][1].reshape(5)
    net.save(tmp_path / "w")
    with pytest.raises(LayerError, match="cannot run on bottoms"):
        net.forward()
    wider = write(
        tmp_path / "wide.prototxt",
        SMALL.replace("num_output: 2", "num_output: 5").replace("dim: 4 dim: 2", "dim: 4 dim: 5"),
    )
    made = caffe.Net(wider, caffe.TEST, weights=tmp_path / "w")
    assert made.params["ip"][0].data.sum() == 30


def test_input_arrays(tmp_path: Path) -> None:
    text = """layer { name: "d" type: "MemoryData" top: "x" top: "y"
      memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }"""
    net = caffe.Net(write(tmp_path / "m.prototxt", text), caffe.TEST)
    data = np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
    net.set_input_arrays(data, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(net.forward()["x"], data[:2])
    found = net.forward()
    np.testing.assert_array_equal(found["x"], data[2:])
    np.testing.assert_array_equal(found["y"].ravel(), [2, 3])
    with pytest.raises(LayerError, match="multiple of the batch size"):
        net.set_input_arrays(data[:3], np.zeros(3, np.float32))


def test_input_arrays_need_memory_data(path: Path) -> None:
    with pytest.raises(UsageError, match="not of type MemoryData"):
        caffe.Net(path, caffe.TEST).set_input_arrays(np.zeros(1), np.zeros(1))


def test_methods_of_deeplab_v1(path: Path) -> None:
    net = caffe.Net(path, caffe.TEST)
    net.set_phase_test()
    net.set_mode_cpu()
    net.set_device(0)
    with pytest.raises(UsageError, match=r"in phase TEST; make it with caffe\.TRAIN"):
        net.set_phase_train()


def test_data_cannot_be_replaced(path: Path) -> None:
    net = caffe.Net(path, caffe.TEST)
    with pytest.raises(AttributeError):
        net.blobs["x"].data = np.zeros((4, 3))


def test_copies_of_the_parameters_on_another_device(tmp_path: Path) -> None:
    """The path that a GPU takes, on the CPU."""
    text = "force_backward: true " + IMAGES.replace(
        'name: "flat" type: "Flatten" bottom: "conv"',
        'name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" } '
        'layer { name: "flat" type: "Flatten" bottom: "bn"',
    )
    net = caffe.Net(write(tmp_path / "n.prototxt", text), caffe.TRAIN)
    fill(net)
    runner, spec = net._runner, net._net.spec
    net.forward()
    net.blobs["conv"].diff[...] = 1
    net.backward(start="conv", end="conv")
    wanted = net.params["conv"][0].diff.copy()
    statistics = net.params["bn"][0].data.copy()
    net.clear_param_diffs()
    for name in ("conv", "bn"):
        layer = spec.layer(name)
        bottoms = [torch.from_numpy(net.blobs[layer.bottoms[0]].data.copy()).requires_grad_()]
        module = net._net.module(name)
        params = {p.name: module.get_parameter(p.name) for p in layer.params}
        runner._records[name] = runner._compute_on(torch.device("cpu"), layer, bottoms, params)
    net.backward(start="conv", end="conv")
    np.testing.assert_allclose(net.params["conv"][0].diff, wanted, rtol=1e-6)
    # a second pass of the same batch: 0.999 of the first, and the batch again
    np.testing.assert_allclose(net.params["bn"][0].data, statistics * 1.999, rtol=1e-5)
    assert net.params["bn"][2].data[0] == pytest.approx(1.999)


def test_private_names_that_scripts_read(path: Path) -> None:
    net = caffe.Net(path, caffe.TEST)
    assert (net._input_list, net._output_list) == (net.inputs, net.outputs)
    given = {"x": np.ones((5, 3), np.float32)}
    first, last = net._batch(given)
    assert first["x"].shape == last["x"].shape == (4, 3)
    assert last["x"].sum() == 3


@pytest.mark.parametrize("mode", ["elementwise", "channel"])
def test_deeplab_v1s_preprocessing(tmp_path: Path, mode: str) -> None:
    """DeepLab v1 pycaffe.py, Net.preprocess: resize, swap, transpose, scale, mean, scale."""
    net = caffe.Net(write(tmp_path / "n.prototxt", IMAGES), caffe.TEST)
    random = np.random.default_rng(0)
    image, mean = random.random((8, 8, 3)), random.random((3, 8, 8)) * 100
    net.set_mean("data", mean, mode=mode)
    net.set_raw_scale("data", 255)
    net.set_channel_swap("data", (2, 0, 1))
    net.set_input_scale("data", 0.5)
    wanted = mean if mode == "elementwise" else mean.mean(1).mean(1)[:, None, None]
    found = net.preprocess("data", image)
    swapped = image.astype(np.float32)[:, :, (2, 0, 1)].transpose(2, 0, 1)
    np.testing.assert_allclose(found, (swapped * 255 - wanted) * 0.5, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(net.deprocess("data", found), image, atol=1e-6)
    assert net.raw_scale == {"data": 255}
    assert net.channel_swap == {"data": (2, 0, 1)}
    assert net.input_scale == {"data": 0.5}
    np.testing.assert_array_equal(net.mean["data"].ravel(), wanted.ravel())
    net.blobs["data"].reshape(1, 3, 4, 6)
    assert net.deprocess("data", np.zeros((3, 8, 8))).shape == (8, 8, 3)
    net.set_mean("data", mean, mode=mode)
    assert net.preprocess("data", image).shape == (3, 4, 6)
    with pytest.raises(UsageError, match="mode is 'pixel'"):
        net.set_mean("data", mean, mode="pixel")
    with pytest.raises(ValueError, match="not one of the net inputs"):
        net.set_raw_scale("label", 1)


def test_a_classifier_of_2014(tmp_path: Path) -> None:
    """Its methods set what predict uses, and gpu= sets the mode."""
    path = write(tmp_path / "n.prototxt", IMAGES)
    weights = tmp_path / "w"
    caffe.Net(path, caffe.TEST).save(weights)
    swap, mean = (2, 1, 0), np.full((3, 8, 8), 9.0)
    now = caffe.Classifier(path, weights, mean=mean, raw_scale=255, channel_swap=swap)
    old = caffe.Classifier(path, weights, gpu=False)
    old.set_phase_test()
    old.set_mean("data", mean)
    old.set_raw_scale("data", 255)
    old.set_channel_swap("data", swap)
    image = np.random.default_rng(0).random((9, 10, 3))
    np.testing.assert_array_equal(old.predict([image]), now.predict([image]))


def test_the_compiled_modules_names(path: Path, tmp_path: Path) -> None:
    net = caffe.Net(path, caffe.TEST)
    assert isinstance(net.params["ip"], _caffe.BlobVec)
    assert isinstance(net.blobs["x"], _caffe.Blob)
    assert isinstance(net._layer_names, _caffe.StringVec)
    assert isinstance(net.layers, _caffe.LayerVec)
    solver = caffe.get_solver(make_solver(tmp_path, "display: 3"))
    assert isinstance(solver, _caffe.Solver)
    assert isinstance(solver.param, _caffe.SolverParameter)
    assert solver.display == 3
    solver.display = 7
    assert solver.param.display == 7
    blobs = _caffe.BlobVec()
    blobs.add_blob(2, 3)
    assert blobs[0].data.shape == (2, 3)


def test_missing_names_are_reported() -> None:
    for call in (caffe.NCCL.new_uid, lambda: caffe.NCCL(None, b"")):
        with pytest.raises(UsageError, match="torchrun"):
            call()


def test_logging_disabled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glog, "_level", [])
    caffe.log("seen")
    caffe.set_logging_disabled()
    caffe.log("left out")
    glog.log("left out", glog.ERROR)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("] ")[2] for line in lines] == ["seen"]


IN_PLACE = """input: "x" input_shape {{ dim: 2 dim: 3 }} force_backward: true
layer {{ name: "f" type: "{type}" bottom: "x" top: "y" }}
layer {{ name: "s" type: "Scale" bottom: "y" top: "{top}"
 scale_param {{ filler {{ value: 2 }} }} }}"""


@pytest.mark.parametrize("top", ["y", "z"])
@pytest.mark.parametrize(
    ("type", "factor"),  # of the diff, from the top as it is at the time of backward
    [("Exp", lambda y: y), ("TanH", lambda y: 1 - y * y), ("Sigmoid", lambda y: y * (1 - y))],
)
def test_backward_reads_a_top_that_was_overwritten_in_place(
    tmp_path: Path, type: str, factor: Callable[[np.ndarray], np.ndarray], top: str
) -> None:
    """Caffe's exp_layer.cpp, tanh_layer.cpp, sigmoid_layer.cpp; docs/train.md, Layers in place."""
    path = tmp_path / "net.prototxt"
    path.write_text(IN_PLACE.format(type=type, top=top))
    net = caffe.Net(str(path), caffe.TEST)
    net.forward(x=np.linspace(-1, 1, 6).reshape(2, 3))
    net.blobs[top].diff[...] = 1
    net.backward()
    now = net.blobs["y"].data
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * factor(now), rtol=1e-5, atol=1e-6)
    truly = now / 2 if top == "y" else now
    assert np.allclose(net.blobs["x"].diff, 2 * factor(truly)) == (top == "z")
