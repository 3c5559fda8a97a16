"""Pooling with a mask and Upsample, as SegNet and ENet have them, in both kinds of output."""

from __future__ import annotations

import pytest
import torch

from caffe_port.errors import LayerError
from tests.export.test_module import assert_equal_outputs, emit, loaded
from tests.export.test_onnx import assert_close, write
from tests.layers.helpers import net_of

POOL = 'layer { name: "p" type: "Pooling" bottom: "b0" top: "x" top: "m" pooling_param { %s } }'
UP = 'layer { name: "u" type: "Upsample" bottom: "x" bottom: "m" top: "y" upsample_param { %s } }'
NETS = {
    "by a scale": ("kernel_size: 2 stride: 2", "scale: 2", (2, 3, 8, 6)),
    "less a row": ("kernel_size: 2 stride: 2", "scale: 2 pad_out_h: true", (2, 3, 7, 6)),
    "to a size": ("kernel_size: 2 stride: 2", "upsample_h: 7 upsample_w: 9", (2, 3, 7, 9)),
}


def segnet(name: str):
    pool, up, shape = NETS[name]
    return net_of(POOL % pool + UP % up, shape)


@pytest.mark.parametrize("name", NETS)
def test_a_module(name, tmp_path):
    net = segnet(name)
    assert_equal_outputs(net, loaded(tmp_path / "s.py", emit(net, tmp_path / "s.py")))


@pytest.mark.parametrize("name", NETS)
def test_an_onnx_file(name, tmp_path):
    net = segnet(name)
    write(net, tmp_path / "s.onnx")
    assert_close(net, tmp_path / "s.onnx", 2)


def test_in_a_module_the_last_of_several_values_for_a_place_stays(tmp_path):
    net = net_of(
        POOL % "kernel_size: 3 stride: 1" + UP % "upsample_h: 6 upsample_w: 6", (2, 3, 6, 6)
    )
    assert_equal_outputs(net, loaded(tmp_path / "s.py", emit(net, tmp_path / "s.py")))


@pytest.mark.parametrize("make", [emit, write])
def test_statistics_as_tops_are_refused(make, tmp_path):
    text = 'layer { name: "n" type: "BN" bottom: "b0" top: "y" top: "mean" top: "variance" }'
    with pytest.raises(LayerError, match="tops for mean and variance"):
        make(net_of(text, (2, 3, 4, 5)), tmp_path / "n.py")
    assert torch.is_tensor(net_of(text, (2, 3, 4, 5))(torch.rand(2, 3, 4, 5))["mean"])
