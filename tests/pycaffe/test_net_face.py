"""The whole of pycaffe's Net: forms of the constructor, private names, callbacks, sharing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_port.pycaffe as caffe
from caffe_port.errors import LayerError, UsageError
from tests.pycaffe.nets import IMAGES, SMALL, write


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
        runner._tape[name] = runner._compute_on(torch.device("cpu"), layer, bottoms, params)
    net.backward(start="conv", end="conv")
    np.testing.assert_allclose(net.params["conv"][0].diff, wanted, rtol=1e-6)
    # a second pass of the same batch: 0.999 of the first, and the batch again
    np.testing.assert_allclose(net.params["bn"][0].data, statistics * 1.999, rtol=1e-5)
    assert net.params["bn"][2].data[0] == pytest.approx(1.999)
