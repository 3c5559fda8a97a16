"""What scripts of Caffe's time did with nets: surgery, scoring loops, feature images, tracing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

import caffe_port.pycaffe as caffe
from caffe_port.pycaffe import caffe_pb2, protobuf
from tests.goldens_dir import GOLDENS
from tests.pycaffe.nets import write

DENSE = """input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { value: 1 } } }
"""
FULLY = DENSE.replace(
    'name: "fc" type: "InnerProduct"', 'name: "fc-conv" type: "Convolution"'
).replace("inner_product_param { num_output: 5", "convolution_param { num_output: 5 kernel_size: 4")
SCORES = """force_backward: true
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "label" type: "Input" top: "label"
  input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1 bias_term: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


@pytest.fixture
def dense(tmp_path: Path) -> caffe.Net:
    net = caffe.Net(write(tmp_path / "dense.prototxt", DENSE), caffe.TEST)
    net.save(tmp_path / "dense.caffemodel")
    return net


def test_a_dense_layer_becomes_a_convolution(dense: caffe.Net, tmp_path: Path) -> None:
    path = write(tmp_path / "full.prototxt", FULLY)
    full = caffe.Net(path, str(tmp_path / "dense.caffemodel"), caffe.TEST)
    full.params["fc-conv"][0].data.flat = dense.params["fc"][0].data.flat
    full.params["fc-conv"][1].data[...] = dense.params["fc"][1].data
    image = np.random.default_rng(0).random((3, 6, 6)).astype(np.float32)
    dense.blobs["data"].data[...] = image
    large = np.zeros((3, 9, 8), np.float32)
    large[:, :6, :6] = image
    full.blobs["data"].reshape(1, *large.shape)
    full.blobs["data"].data[...] = large
    scores = full.forward()["fc"]
    assert scores.shape == (1, 5, 4, 3)
    np.testing.assert_allclose(scores[0, :, 0, 0], dense.forward()["fc"][0], rtol=1e-4)


def test_transplanting_by_flat(dense: caffe.Net, tmp_path: Path) -> None:
    other = caffe.Net(write(tmp_path / "full.prototxt", FULLY), caffe.TEST)
    for old, new in (("conv", "conv"), ("fc", "fc-conv")):
        for i, blob in enumerate(dense.params[old]):
            other.params[new][i].data.flat = blob.data.flat
    assert list(other.params) == ["conv", "fc-conv"]
    np.testing.assert_array_equal(
        other.params["fc-conv"][0].data.ravel(), dense.params["fc"][0].data.ravel()
    )


def test_bilinear_upsampling_is_written_into_the_filters(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path / "s.prototxt", SCORES), caffe.TRAIN)
    ramp = 1 - np.abs(np.arange(4) - 1.5) / 2
    channels, per_group, height, width = net.params["up"][0].data.shape
    assert (channels, per_group, height, width) == (2, 1, 4, 4)
    net.params["up"][0].data[range(2), 0, :, :] = np.outer(ramp, ramp)
    net.blobs["pool"].data[...] = 3
    np.testing.assert_allclose(net.forward(start="up", end="up")["up"][0, :, 1:-1, 1:-1], 3)


def test_a_scoring_loop(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path / "s.prototxt", SCORES), caffe.TEST)
    random = np.random.default_rng(0)
    classes, hist = net.blobs["up"].channels, np.zeros((2, 2))
    for _ in range(3):
        net.blobs["data"].data[...] = random.random((1, 3, 8, 8))
        net.blobs["label"].data[...] = random.choice([0, 1, 255], (1, 1, 8, 8))
        net.forward()
        truth = net.blobs["label"].data[0, 0].flatten()
        found = net.blobs["up"].data[0].argmax(0).flatten()
        known = (truth >= 0) & (truth < classes)
        hist += np.bincount(
            classes * truth[known].astype(int) + found[known], minlength=classes**2
        ).reshape(classes, classes)
        assert net.blobs["loss"].data.flat[0] > 0
    assert 0 < hist.sum() < 3 * 64


def test_maximizing_a_layers_activation(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path / "s.prototxt", SCORES), caffe.TEST)
    source, end = net.blobs["data"], "conv"
    source.data[...] = np.random.default_rng(0).random(source.data.shape)
    strengths = []
    for _ in range(4):
        net.forward(end=end)
        strengths.append(float((net.blobs[end].data ** 2).sum()))
        net.blobs[end].diff[...] = net.blobs[end].data
        net.backward(start=end)
        source.data[...] += 0.1 * source.diff / np.abs(source.diff).mean()
    assert strengths == sorted(strengths)
    assert strengths[0] < strengths[-1]


def test_training_by_hand(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path / "s.prototxt", SCORES), caffe.TRAIN)
    random = np.random.default_rng(0)
    net.params["up"][0].data[...] = 0.25
    net.blobs["data"].data[...] = random.random((1, 3, 8, 8))
    net.blobs["label"].data[...] = 1
    losses = []
    for _ in range(5):
        losses.append(float(net.forward()["loss"]))
        net.clear_param_diffs()
        net.backward()
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] -= 0.1 * blob.diff
    assert losses == sorted(losses, reverse=True)


def as_dict(message: object) -> object:
    """A message as nested dicts, told apart by the old classes of repeated fields."""
    if isinstance(message, protobuf.RepeatedScalarContainer):
        return list(message)
    if isinstance(message, protobuf.RepeatedCompositeContainer):
        return [as_dict(item) for item in message]
    if hasattr(message, "ListFields"):
        return {field.name: as_dict(value) for field, value in message.ListFields()}
    return message


def test_walking_through_a_message() -> None:
    net = text_format.Merge(FULLY, caffe_pb2.NetParameter())
    fields = as_dict(net.layer.pop())
    assert fields["name"] == "fc-conv"
    assert fields["convolution_param"]["kernel_size"] == [4]
    assert fields["bottom"] == ["conv"]
    assert len(net.layer) == 2


def test_a_script_for_deeplab_v1_compares_the_forks_numbers() -> None:
    """As Seg-Unravel's seg_fix.py: V1 layers by their number, `hole`, Net(prototxt, weights)."""
    case = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
    net_params = text_format.Merge((case / "net.prototxt").read_text(), caffe_pb2.NetParameter())
    layers = {layer.name: as_dict(layer) for layer in net_params.layers}
    assert [layers[name]["type"] for name in ("conv1_1", "pool1", "fc8_interp")] == [4, 17, 41]
    assert layers["fc6"]["convolution_param"]["hole"] == 12
    assert layers["fc8_interp"]["interp_param"] == {"zoom_factor": 8}
    net = caffe.Net(str(case / "net.prototxt"), str(case / "net.caffemodel"))
    with np.load(case / "case.npz") as recorded:
        net.blobs["data"].data[...] = recorded["input/data"]
        found = net.forward()["fc8_interp"]
        assert np.array_equal(found.argmax(1), recorded["data/fc8_interp"].argmax(1))
    assert net.params["fc6"][0].data.shape == net.layer_dict["fc6"].blobs[0].data.shape
