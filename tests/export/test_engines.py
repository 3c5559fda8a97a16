"""ONNX files at other sizes than the prototxt's, in every engine that is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from caffe_port.inference.engines import BELOW_AVX2, isa_limit, openvino_core
from tests.export.making import NETS, case_net
from tests.export.test_onnx import enlarged, run, write
from tests.verifying import assert_whole_run_is_right

MORE = (1, 32, 64)  # the batch, height and width are larger than the net's own


def openvino(path, inputs):
    core = openvino_core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}  # half precision on some processors otherwise
    model = core.compile_model(core.read_model(str(path)), "CPU", options)
    found = model(inputs)
    return {output.get_any_name(): found[output] for output in model.outputs}


def opencv(path, inputs):
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path), cv2.dnn.ENGINE_NEW)
    for name, x in inputs.items():
        net.setInput(x, name)
    names = net.getUnconnectedOutLayersNames()
    return dict(zip(names, net.forward(names), strict=True))


def has_opencv_5():
    if find_spec("cv2") is None:
        return False
    import cv2

    return int(cv2.__version__.split(".")[0]) >= 5


ENGINES = [run]
# with such a limit OpenVINO ends the process, or has no kernel
LIMITED = isa_limit()[1].upper() in BELOW_AVX2
ENGINES += [openvino] if find_spec("openvino") and not LIMITED else []
ENGINES += [opencv] if has_opencv_5() else []


@pytest.mark.parametrize(
    "folder", [f for f in NETS if "small" not in f.name], ids=lambda folder: folder.name
)
def test_every_recorded_net_at_other_sizes(folder, tmp_path):
    net = case_net(folder)
    names = [output.name for output in write(net, tmp_path / "net.onnx").graph.output]
    inputs = enlarged(net, tmp_path / "net.onnx", MORE)
    found = {}
    for engine in ENGINES:
        outputs = engine(tmp_path / "net.onnx", inputs).values()  # OpenCV names them by layers
        found[engine.__name__] = dict(zip(names, outputs, strict=True))
        assert {len(y) for y in found[engine.__name__].values()} == {
            len(next(iter(inputs.values())))
        }
    assert_whole_run_is_right(net, inputs, *found.values())
