"""ONNX files in OpenVINO and OpenCV 5, by the same rule as in onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.making import NETS, case_net
from tests.export.test_onnx import enlarged, write
from tests.verifying import assert_whole_run_is_right

MORE = (1, 32, 64)  # the batch, height and width are larger than the net's own


def openvino(path, inputs):
    engine = pytest.importorskip("openvino")
    core = engine.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}  # half precision on some processors otherwise
    model = core.compile_model(core.read_model(str(path)), "CPU", options)
    found = model(inputs)
    return {output.get_any_name(): found[output] for output in model.outputs}


def opencv(path, inputs):
    cv2 = pytest.importorskip("cv2", minversion="5")
    net = cv2.dnn.readNetFromONNX(str(path), cv2.dnn.ENGINE_NEW)
    for name, x in inputs.items():
        net.setInput(x, name)
    names = net.getUnconnectedOutLayersNames()
    return dict(zip(names, net.forward(names), strict=True))


@pytest.mark.parametrize("engine", [openvino, opencv], ids=lambda engine: engine.__name__)
@pytest.mark.parametrize(
    "folder", [f for f in NETS if "small" not in f.name], ids=lambda folder: folder.name
)
def test_every_recorded_net_at_other_sizes(folder, engine, tmp_path):
    net = case_net(folder)
    model = write(net, tmp_path / "net.onnx")
    inputs = enlarged(net, tmp_path / "net.onnx", MORE)
    found = engine(tmp_path / "net.onnx", inputs)
    names = [output.name for output in model.graph.output]
    assert len(found) == len(names)
    if engine is opencv:  # it names outputs by their layers
        found = dict(zip(names, found.values(), strict=True))
    assert all(np.asarray(y).shape[0] == len(next(iter(inputs.values()))) for y in found.values())
    assert_whole_run_is_right(net, inputs, found)
