"""Blobs that share memory, and backward after a write, beyond what the recorded sequences hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import caffe_port.pycaffe as caffe
from caffe_port.errors import LayerError
from caffe_port.live.blob import Blob
from tests.spec.making import INPUT, LABEL, conv, layer


@pytest.fixture
def make(tmp_path):
    def make(text, phase=caffe.TEST):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        net = caffe.Net(str(path), phase)
        random = np.random.default_rng(0)
        net.blobs["x"].data[...] = random.standard_normal(net.blobs["x"].data.shape)
        return net

    return make


def test_a_write_into_a_blob_of_two_readers_reaches_both(make):
    power = "power_param { scale: 5 }"
    net = make(INPUT + layer("a", "Power", "x", more=power) + layer("b", "Power", "x", more=power))
    net.forward()
    net.blobs["x"].data[...] = 10
    found = net.forward(start="a")
    assert (found["a"] == 50).all()
    assert (found["b"] == 50).all()
    net.blobs["x_input_0_split_1"].data[...] = 2
    found = net.forward(start="a")
    assert (found["a"] == 10).all()
    assert (net.blobs["x"].data == 2).all()


@pytest.mark.parametrize(
    ("type", "more"),
    [
        ("Flatten", ""),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"),
        ("Concat", ""),
        ("Slice", ""),
    ],
)
def test_tops_that_are_their_bottoms_memory(make, type, more):
    net = make("force_backward: true " + INPUT + layer("a", type, "x", more=more))
    net.forward()
    assert np.shares_memory(net.blobs["a"].data, net.blobs["x"].data)
    net.blobs["a"].diff[...] = 3
    assert (net.backward()["x"] == 3).all()
    assert np.shares_memory(net.blobs["a"].diff, net.blobs["x"].diff)


def test_a_parameter_layers_top_is_its_parameter(make):
    text = layer("p", "Parameter", "", more="parameter_param { shape { dim: 3 } }")
    scale = layer("s", "Scale", "x p", more="scale_param { axis: 1 }")
    net = make("force_backward: true " + INPUT + text + scale)
    net.forward()
    net.blobs["p"].data[...] = 7
    assert (net.params["p"][0].data == 7).all()
    net.blobs["s"].diff[...] = 1
    net.backward()
    assert net.params["p"][0].diff.any()
    assert np.array_equal(net.params["p"][0].diff, net.blobs["p"].diff)


@pytest.mark.parametrize(("axis", "times"), [(0, 1), (1, 2)])
def test_the_diff_of_a_scale_adds_up_over_passes_only_behind_other_axes(make, axis, times):
    """As in Caffe, whose backward sets it where the scale begins at the first axis."""
    more = f"loss_weight: 1 scale_param {{ axis: {axis} bias_term: true }}"
    net = make(INPUT + layer("s", "Scale", "x", more=more))
    net.blobs["x"].data[...] = np.arange(net.blobs["x"].count).reshape(net.blobs["x"].shape)
    found = []
    for _ in range(2):
        net.forward()
        net.blobs["s"].diff[...] = 1
        net.backward()
        found.append([blob.diff.copy() for blob in net.params["s"]])
    assert np.array_equal(found[1][0], times * found[0][0])
    assert np.array_equal(found[1][1], 2 * found[0][1])


def test_backward_after_a_write_takes_the_new_values(make):
    net = make("force_backward: true " + INPUT + conv("c", "x"))
    net.forward()
    net.blobs["x"].data[...] = 2
    net.blobs["c"].diff[...] = 1
    net.backward()
    positions = net.blobs["c"].data[:, 0].size
    assert np.allclose(net.params["c"][0].diff, 2 * positions)


def test_the_cell_of_an_lstm_unit_is_read_again(make):
    """A layer in place on it comes before backward, which takes the tanh of what is there then."""
    inputs = "".join(
        f'input: "{name}" input_shape {{ dim: 1 dim: 2 dim: {size} }}\n'
        for name, size in (("x", 3), ("gates", 12))
    )
    cont = 'input: "cont" input_shape { dim: 1 dim: 2 }\n'
    unit = layer("u", "LSTMUnit", "x gates cont", "after h")
    net = make("force_backward: true " + inputs + cont + unit)
    generator = torch.Generator().manual_seed(5)
    cell = torch.randn(1, 2, 3, generator=generator, requires_grad=True)
    gates = torch.randn(1, 2, 12, generator=generator, requires_grad=True)
    written = torch.randn(1, 2, 3, generator=generator)
    c_diff, h_diff = torch.randn(2, 1, 2, 3, generator=generator)
    net.blobs["x"].data[...], net.blobs["gates"].data[...] = cell.detach(), gates.detach()
    net.blobs["cont"].data[...] = 1
    net.forward()
    net.blobs["after"].data[...] = written
    net.blobs["after"].diff[...], net.blobs["h"].diff[...] = c_diff, h_diff
    net.backward()
    i, f, o, g = gates.chunk(4, -1)
    after = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    h = o.sigmoid() * (written + after - after.detach()).tanh()
    wanted = torch.autograd.grad([after, h], [cell, gates], [c_diff, h_diff])
    for name, diff in zip(("x", "gates"), wanted, strict=True):
        assert np.allclose(net.blobs[name].diff, diff, atol=1e-6)


def test_a_mask_is_read_again(make):
    pool = "pooling_param { kernel_size: 6 }"
    net = make("force_backward: true " + INPUT + layer("p", "Pooling", "x", "p m", more=pool))
    net.forward()
    net.blobs["m"].data[...] = 5
    net.blobs["p"].diff[...] = 1
    diff = net.backward()["x"].copy()
    assert (diff[:, :, 0, 5] == 1).all()
    assert diff.sum() == diff[:, :, 0, 5].sum()
    net.blobs["m"].data[...] = 36
    with pytest.raises(LayerError, match=r"layer 'p'.*36 to 36; expected 0 to 35"):
        net.backward()


def test_a_loss_keeps_its_weight_when_it_grows(make):
    more = "reduction_param { operation: SUMSQ axis: 1 } loss_weight: 0.5"
    net = make("force_backward: true " + INPUT + layer("l", "Reduction", "x", more=more))
    for grow in (net.reshape, lambda: None):
        net.blobs["x"].reshape(net.blobs["x"].num + 3, 3, 6, 6)
        grow()
        net.blobs["x"].data[...] = 2
        net.forward()
        assert (net.blobs["l"].diff == 0.5).all()
        assert (net.backward()["x"] == 2).all()


def test_hinge_loss_leaves_its_margins_in_the_diff(make):
    text = INPUT + "layer { name: 'y' type: 'Input' top: 'y' input_param { shape { dim: 2 } } }"
    net = make("force_backward: true " + text + layer("l", "HingeLoss", "x y"))
    net.forward()
    flat = net.blobs["x"].data.reshape(2, -1).copy()
    flat[:, 0] *= -1
    margins = np.maximum(0, 1 + flat)
    assert np.allclose(net.blobs["x"].diff.reshape(2, -1), margins)
    expected = np.sign(margins) / 2
    expected[:, 0] *= -1
    assert np.allclose(net.backward()["x"].reshape(2, -1), expected)


def test_hinge_loss_of_items_with_one_value(make):
    text = "".join(
        f"layer {{ name: '{x}' type: 'Input' top: '{x}' input_param {{ shape {{ dim: 2 }} }} }}"
        for x in "xy"
    )
    net = make("force_backward: true " + text + layer("l", "HingeLoss", "x y"))
    net.blobs["x"].data[...] = [0.25, 3]
    net.forward()
    assert net.blobs["x"].diff.tolist() == [0.75, 0]
    assert net.backward()["x"].tolist() == [-0.5, 0]


def test_memory_is_kept_when_a_blob_shrinks():
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.diff[...] = 1
    blob.reshape(2, 2)
    assert blob.data.tolist() == [[0, 1], [2, 3]]
    blob.reshape(6)
    assert blob.data.tolist() == [0, 1, 2, 3, 4, 5]
    assert blob.diff.sum() == 6
    blob.reshape(7)
    assert not blob.data.any()
    assert not blob.has_diff


def test_shared_memory_stays_shared_in_other_shapes():
    a, b = Blob((2, 3)), Blob((6,))
    b.share_data(a)
    b.share_diff(a)
    a.data[1, 2], a.diff[0, 0] = 5, 6
    assert (b.data[5], b.diff[0]) == (5, 6)
    b.reshape(3, 2)
    b.data[...] = 1
    assert a.data.sum() == 6
    b.reshape(7)  # more than it has: memory of its own
    b.data[...] = 2
    assert a.data.sum() == 6


def test_labels_are_read_again(make):
    net = make("force_backward: true " + INPUT + LABEL + layer("l", "SoftmaxWithLoss", "x y"))
    net.forward()
    before = net.backward()["x"].copy()
    net.blobs["y"].data[...] = 1
    after = net.backward()["x"]
    assert (after[:, 1] < 0).all()
    assert not np.array_equal(after, before)


def test_a_constant_of_dummy_data_is_filled_once(tmp_path):
    """As recorded from BVLC Caffe 1.0: what is written into it stays, also by a layer in place."""
    text = (
        'layer { name: "k" type: "DummyData" top: "x" top: "y" dummy_data_param { '
        "shape { dim: 2 } data_filler { value: 3 } "
        "data_filler { type: 'uniform' min: 1 max: 2 } } }"
    )
    (tmp_path / "net.prototxt").write_text(text + layer("q", "Power", "x", "q"))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert net.blobs["x"].data.tolist() == [3, 3]
    assert net.blobs["y"].data.tolist() == [0, 0]  # filled by forward
    net.blobs["x"].data[...] = net.blobs["y"].data[...] = 7
    assert net.forward()["q"].tolist() == [7, 7]
    assert (net.blobs["y"].data < 2).all()
    net.blobs["x"].reshape(3)
    assert net.forward()["q"].tolist() == [0, 0, 0]
    power = layer("p", "Power", "x", "x", more="power_param { shift: 2 }")
    (tmp_path / "net.prototxt").write_text(text + power)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert [net.forward()["x"].tolist() for _ in range(3)] == [[5, 5], [7, 7], [9, 9]]


def test_the_tops_of_memory_data_are_the_callers_arrays(tmp_path):
    """As recorded from BVLC Caffe 1.0: a layer in place changes the arrays at each pass."""
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "m" type: "MemoryData" top: "x" top: "t" memory_data_param { '
        "batch_size: 2 channels: 1 height: 1 width: 1 } }"
        + layer("p", "Power", "x", "x", more="power_param { scale: 2 }")
        + layer("q", "Power", "x", "q")
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    data = np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1)
    net.set_input_arrays(data, np.zeros(4, np.float32))
    found = [net.forward()["q"].ravel().tolist() for _ in range(4)]
    assert found == [[2, 4], [6, 8], [4, 8], [12, 16]]
    assert data.ravel().tolist() == [4, 8, 12, 16]
    read_only = np.ones((2, 1, 1, 1), np.float32)
    read_only.flags.writeable = False
    net.set_input_arrays(read_only, np.zeros(2, np.float32))
    assert net.forward()["q"].ravel().tolist() == [2, 2]


@pytest.mark.parametrize("shared", ["false", "true"])
def test_normalize_reads_its_top_again(make, shared):
    """weiliu89/caffe normalize_layer.cpp: the scale's diff is that of the top, over the scale."""
    more = f"norm_param {{ channel_shared: {shared} across_spatial: {shared} }}"
    net = make("force_backward: true " + INPUT + layer("n", "Normalize", "x", "n", more=more))
    net.params["n"][0].data[...] = 2
    net.forward()
    net.blobs["n"].diff[...] = diff = np.random.default_rng(1).standard_normal(net.blobs["n"].shape)
    whole = net.backward()["x"].copy()
    net.blobs["n"].data[...] *= 3
    net.clear_param_diffs()
    assert np.allclose(net.backward()["x"], whole, atol=1e-6)
    expected = (net.blobs["n"].data * diff).sum((0, 2, 3)) / 2
    expected = expected.sum() if shared == "true" else expected
    assert np.allclose(net.params["n"][0].diff, expected, rtol=1e-4)
