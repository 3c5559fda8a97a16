"""A net with SSD's layers: priors are written, DetectionOutput is left out with its bottoms."""

from __future__ import annotations

import pytest

from caffe_port.export.graph import make_graph
from tests.export.test_module import assert_equal_outputs, emit, loaded
from tests.export.test_onnx import assert_close, write
from tests.layers.helpers import net_of

HEADS = """
layer { name: "f" type: "Pooling" bottom: "b0" top: "f" pooling_param { kernel_size: 8 stride: 8 } }
layer { name: "prior" type: "PriorBox" bottom: "f" bottom: "b0" top: "prior"
  prior_box_param { %s } }
layer { name: "loc" type: "Convolution" bottom: "f" top: "loc"
  convolution_param { num_output: %d kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "perm" type: "Permute" bottom: "loc" top: "perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "flat" type: "Flatten" bottom: "perm" top: "flat" }
"""
DETECT = """
layer { name: "det" type: "DetectionOutput" bottom: "flat" bottom: "conf" bottom: "prior" top: "det"
  detection_output_param { num_classes: 2 } }
"""
OPTIONS = {
    "one size": ("min_size: 9", 4),
    "all": ("min_size: 9 min_size: 20.7 max_size: 15 max_size: 31 aspect_ratio: 2 aspect_ratio: 3 "
            "clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.3", 56),
    "given sizes": ("min_size: 9 aspect_ratio: 1.7 flip: false img_h: 50 img_w: 70 step_h: 7.5 "
                    "step_w: 9.1", 8),
}  # fmt: skip


def ssd(name: str):
    return net_of(HEADS % OPTIONS[name], (1, 3, 40, 56))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_module(name, tmp_path):
    net = ssd(name)
    assert_equal_outputs(net, loaded(tmp_path / "s.py", emit(net, tmp_path / "s.py")))


@pytest.mark.parametrize("name", OPTIONS)
def test_an_onnx_file(name, tmp_path):
    net = ssd(name)
    write(net, tmp_path / "s.onnx")
    assert_close(net, tmp_path / "s.onnx", 2)


def test_what_detection_output_reads_becomes_outputs():
    scores = 'input: "conf" input_shape { dim: 1 dim: 70 } '
    net = net_of(scores + HEADS % OPTIONS["one size"] + DETECT, (1, 3, 40, 56))
    graph = make_graph(net.spec)
    assert [text.partition(" is left out")[0] for text in graph.left_out] == [
        "layer 'det' (DetectionOutput)"
    ]
    assert set(graph.outputs) == {"flat", "prior"}
