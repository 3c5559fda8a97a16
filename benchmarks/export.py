"""How exact an ONNX file is in each engine, compared with the net that it was written from.

The bundled model on a validation image, and the published networks with random weights on noise.
The distance is the largest difference of the scores, divided by their peak; labels are the argmax.
OpenCV takes part where its version is 5 or later. Run it with `python -m benchmarks export`; it
measures no times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

import caffe_port
from benchmarks.measure import report, versions
from benchmarks.nets import with_random_weights
from benchmarks.shapes import RUN, padded, samples
from caffe_port.export import write_onnx
from caffe_port.inference.engines import onnxruntime_module, openvino_core
from caffe_port.net import Net

# network -> its folder, its scores, the side of its input
NETWORKS = {
    "LargeFOV": ("deeplab_v2_vgg16_largefov", "fc8_interp", 129),
    "FCN-AlexNet": ("fcn_alexnet", "score", 129),
    "ResNet-101 MSc": ("deeplab_v2_resnet101_msc_aspp", "fc1_interp", 65),
}

Array: TypeAlias = "np.ndarray"
Engine: TypeAlias = Callable[[Path, Array], Array]


def onnxruntime(path: Path, x: Array) -> Array:
    """ONNX Runtime on the CPU."""
    session = onnxruntime_module().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(found)


def openvino(path: Path, x: Array) -> Array:
    """OpenVINO on the CPU; without the hint it computes in half precision on some processors."""
    core = openvino_core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.asarray(core.compile_model(core.read_model(str(path)), "CPU", options)(x)[0])


def opencv(path: Path, x: Array) -> Array:
    """OpenCV 5's new engine, which takes files with free sizes."""
    import cv2

    program: Any = cv2.dnn
    net = program.readNetFromONNX(str(path), program.ENGINE_NEW)
    net.setInput(x)
    return np.asarray(net.forward())


def _engines() -> dict[str, Engine]:
    import cv2

    found = {"onnxruntime": onnxruntime, "OpenVINO": openvino}
    return {**found, "OpenCV": opencv} if int(cv2.__version__.split(".")[0]) >= 5 else found


def _compare(net: Net, top: str, x: Array, engines: dict[str, Engine]) -> dict[str, float]:
    with torch.no_grad():
        wanted = net(torch.from_numpy(x), keep=[top])[top].numpy()
    row: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write_onnx(net, path)
        for name, engine in engines.items():
            found = engine(path, x)
            distance = np.abs(found - wanted).max() / np.abs(wanted).max()
            row[name] = float(f"{distance:.1e}")
            changed = int((found.argmax(1) != wanted.argmax(1)).sum())
            row["labels that differ"] = row.get("labels that differ", 0) + changed
    return row


def main() -> None:
    """Measures all networks in all engines."""
    engines = _engines()
    net = caffe_port.load(
        RUN / "recording" / "net.prototxt", RUN / "model" / "train_iter_2400.caffemodel"
    )
    x = padded(samples()[27].x).numpy()
    table = {"the bundled model, 161 x 161": _compare(net, "fc8_interp", x, engines)}
    for name, (folder, top, side) in NETWORKS.items():
        noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 60
        row = _compare(with_random_weights(folder), top, noise.numpy(), engines)
        table[f"{name}, {side} x {side}"] = row
    installed = versions("torch", "onnx", "onnxruntime", "openvino", "opencv-python-headless")
    report("export", {"versions": installed, "tables": {"distance of the peak": table}})
