"""A pass through the whole net computes the same as pycaffe's, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_port.data import rng
from caffe_port.live.net import Net
from caffe_port.proto import caffe_pb2
from caffe_port.solver.step import FusedStep, why_not_fused
from tests.solver.making import training

SOURCE = """
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 5 dim: 5 } shape { dim: 2 dim: 4 dim: 5 dim: 5 }
  data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
"""
CONVOLUTION = (
    "convolution_param { num_output: 4 kernel_size: 3 pad: 1 "
    'weight_filler { type: "gaussian" std: 0.2 } } '
)
NETS = {
    "split and in place": """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" %s }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "d" type: "Dropout" bottom: "c" top: "c" }
layer { name: "e" type: "Eltwise" bottom: "c" bottom: "c" top: "e" }
layer { name: "loss" type: "EuclideanLoss" bottom: "e" bottom: "t" top: "loss" }
layer { name: "more" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "more" loss_weight: 0.3 }
""",
    "shared parameters": """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" } %s }
layer { name: "b" type: "Convolution" bottom: "x" top: "b" param { name: "w" } %s }
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "loss" }
layer { name: "more" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "more" }
""",
    "parts that do not learn": """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { lr_mult: 0 }
  param { lr_mult: 0 } %s }
layer { name: "n" type: "BatchNorm" bottom: "a" top: "n" }
layer { name: "b" type: "Convolution" bottom: "n" top: "b" %s }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
layer { name: "s" type: "Silence" bottom: "a" }
""",
    "propagate_down": """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" %s }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" propagate_down: false
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
layer { name: "more" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "more" }
""",
    "a learned blob, whose diff does not add up": """
layer { name: "w" type: "Parameter" top: "w" parameter_param {
  shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }
layer { name: "y" type: "Eltwise" bottom: "x" bottom: "w" top: "y" }
layer { name: "a" type: "Convolution" bottom: "y" top: "a" %s }
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "loss" }
""",
    "a scale whose diff does not add up": """
layer { name: "s" type: "Scale" bottom: "x" top: "s" scale_param { axis: 0 bias_term: true } }
layer { name: "u" type: "Scale" bottom: "s" top: "u" }
layer { name: "a" type: "Convolution" bottom: "u" top: "a" %s }
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "loss" }
""",
    "a loss of many numbers": """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" %s }
layer { name: "p" type: "Power" bottom: "a" top: "p" power_param { power: 2 } loss_weight: 0.1 }
""",
}


def made(folder: Path, text: str) -> Net:
    (folder / "net.prototxt").write_text(SOURCE + text.replace("%s", CONVOLUTION))
    with rng.seeded(rng.CaffeRandom(3)):
        return Net(str(folder / "net.prototxt"), caffe_pb2.TRAIN)


@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_loss_diffs_and_outputs_are_the_same(tmp_path: Path, text: str) -> None:
    whole, layered = made(tmp_path, text), made(tmp_path, text)
    last, passing = len(layered.layers) - 1, FusedStep(whole)
    assert not why_not_fused(whole)
    for _ in range(3):  # diffs add up
        expected = layered._forward(0, last)
        layered._backward(last, 0)
        assert passing.forward_backward() == pytest.approx(expected, rel=1e-6)
        for name in layered.outputs:
            np.testing.assert_array_equal(whole.blobs[name].data, layered.blobs[name].data)
        for layer, blobs in layered.params.items():
            for blob, other in zip(blobs, whole.params[layer], strict=True):
                np.testing.assert_array_equal(other.diff, blob.diff)
                np.testing.assert_array_equal(other.data, blob.data)


@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_cleared_diffs_stay_cleared(tmp_path: Path, text: str) -> None:
    net = made(tmp_path, text)
    passing = FusedStep(net)
    passing.forward_backward()
    blobs = [blob for blobs in net.params.values() for blob in blobs]
    assert max(np.abs(blob.diff).max() for blob in blobs) > 0
    passing.clear()
    assert max(np.abs(blob.diff).max() for blob in blobs) == 0
    passing.forward_backward()  # what was looked at in between is added to all the same
    assert max(np.abs(blob.diff).max() for blob in blobs) > 0


def test_callbacks_see_every_blob(tmp_path: Path) -> None:
    net = made(tmp_path, NETS["split and in place"])
    net.after_forward(lambda layer: None)
    assert "callbacks" in why_not_fused(net)
    solver = training(tmp_path)
    solver.step(1)
    assert np.abs(solver.net.blobs["ip"].data).max() == 0
    solver.add_callback(lambda: None, lambda: None)
    solver.step(1)
    assert np.abs(solver.net.blobs["ip"].data).max() > 0
