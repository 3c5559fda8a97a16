"""Reading an 82 MB caffemodel (LargeFOV with its published channels) into aligned arrays.

The floor is one copy of its floats: protobuf's payloads are unaligned. Run it with
`python -m benchmarks loading`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import interleave, report, summary, versions
from caffe_port.proto import caffe_pb2
from caffe_port.weights import StoredBlob, StoredLayer, read_weights, write_weights

_WIDTHS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
_WIDTHS += [(256, 512)] + [(512, 512)] * 5


def largefov_layers() -> list[StoredLayer]:
    """Random weights in the published shapes: 20.5 million parameters."""
    rng = np.random.default_rng(0)
    shapes = [(out, into, 3, 3) for into, out in _WIDTHS]
    shapes += [(1024, 512, 3, 3), (1024, 1024, 1, 1), (21, 1024, 1, 1)]
    return [
        StoredLayer(
            f"conv{i}",
            "Convolution",
            tuple(StoredBlob(rng.standard_normal(s, np.float32)) for s in (shape, shape[:1])),
        )
        for i, shape in enumerate(shapes)
    ]


def _prototxt(layers: list[StoredLayer]) -> str:
    text = 'name: "x" input: "data" input_shape { dim: 1 dim: 3 dim: 65 dim: 65 }\n'
    bottom = "data"
    for layer in layers:
        out, _, kernel, _ = layer.blobs[0].data.shape
        text += (
            f'layer {{ name: "{layer.name}" type: "Convolution" bottom: "{bottom}" '
            f'top: "{layer.name}" convolution_param {{ num_output: {out} '
            f"kernel_size: {kernel} pad: {kernel // 2} }} }}\n"
        )
        bottom = layer.name
    return text


def _with_protobuf(path: Path) -> list[np.ndarray]:
    message = caffe_pb2.NetParameter()
    message.ParseFromString(path.read_bytes())
    return [np.array(b.data, np.float32) for layer in message.layer for b in layer.blobs]


def _peak_memory(path: Path) -> float:
    """Memory above the start, as a multiple of the file, of reading it in a process of its own."""
    code = (
        "import sys\n"
        "from benchmarks.measure import peak\n"
        "from caffe_port.weights import read_weights\n"
        "import caffe_port.weights.caffemodel\n"
        "before = peak()\n"
        "kept = [b.aligned() for l in read_weights(sys.argv[1]).layers for b in l.blobs]\n"
        "print(peak() - before)\n"
    )
    run = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    return int(found) / path.stat().st_size


def _resnet(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds to build ResNet-101 MSc ASPP and load its 530 MB caffemodel, strictly."""
    from caffe_port.loading import load

    text = Path(__file__).parent.parent / "prototxt/deeplab_v2_resnet101_msc_aspp/deploy.prototxt"
    variables = {"NUM_LABELS": "21", "EXP": "voc12", "NET_ID": "resnet"}
    path = folder / "resnet.caffemodel"
    load(text, variables=variables).save(path)
    ways = {"build and load": lambda: load(text, path, variables=variables)}
    return summary(interleave(ways, 3), "build and load")


def _first_output(repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of whole processes, until they have said what they have to say."""

    scripts = Path(sysconfig.get_path("scripts"))

    def process(program: Path | str, *arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([program, *arguments], capture_output=True, check=True)

    ways = {
        "python": process(sys.executable, "-c", "pass"),
        "import caffe_port": process(sys.executable, "-c", "import caffe_port"),
        "caffe-port --help": process(scripts / "caffe-port", "--help"),
        "caffe-port inspect --help": process(scripts / "caffe-port", "inspect", "--help"),
        "caffe --help": process(scripts / "caffe", "--help"),
    }
    return summary(interleave(ways, repeats), "python")


def main(repeats: int = 15) -> None:
    """Measures and reports."""
    layers = largefov_layers()
    with tempfile.TemporaryDirectory() as folder:
        path, text = Path(folder) / "largefov.caffemodel", Path(folder) / "net.prototxt"
        write_weights(path, layers)
        text.write_text(_prototxt(layers))
        floats = [b.data for layer in layers for b in layer.blobs]
        ways = {
            "one copy of the floats": lambda: [np.array(f) for f in floats],
            "caffe_port, aligned arrays": lambda: [
                b.aligned() for layer in read_weights(path).layers for b in layer.blobs
            ],
            "caffe_port, listing only": lambda: read_weights(path),
            "protobuf and numpy": lambda: _with_protobuf(path),
        }
        try:
            import cv2

            ways["OpenCV readNetFromCaffe"] = lambda: cv2.dnn.readNetFromCaffe(str(text), str(path))
        except (ImportError, AttributeError):
            print("OpenCV with readNetFromCaffe is not installed; left out")
        table = summary(interleave(ways, repeats), "one copy of the floats")
        memory = round(_peak_memory(path), 3)
        size = path.stat().st_size
        resnet = _resnet(Path(folder))
    tables = {
        f"{size / 1e6:.0f} MB caffemodel; ratio to one copy": table,
        "ResNet-101 MSc ASPP, 44 M parameters stored three times": resnet,
        "peak memory above the start": {"caffe_port": {"times the file": memory}},
        "a process's first output": _first_output(repeats),
    }
    packages = ("numpy", "protobuf", "opencv-python-headless")
    report("loading", {"versions": versions(*packages), "tables": tables})


if __name__ == "__main__":
    main()
