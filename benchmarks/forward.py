"""A forward pass compared with ONNX Runtime and OpenVINO, which run the ONNX file of the same net.

The networks have their published channels and random weights. All ways are measured in turn, in
seconds of the processor and of the clock: other work on the machine changes the second much more.
For comparison, the time of the same multiply-adds in torch's products of 2048 x 2048 matrices.
Peak memory is what loading the net and two passes add to a process of its own.

`python -m benchmarks forward` measures every table, each in a process of its own. The environment
variable FORWARD names those that begin with it, such as `LargeFOV 513 x 513, 1 thread`, or is
`missing` for those without a result; their figures are put among the others'. In the tables of
AVX2, torch and OpenVINO are limited to these instructions. ONNX Runtime cannot be limited and is
left out there, for ours too.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe_port
from benchmarks.measure import RESULTS, report, versions
from benchmarks.nets import with_random_weights
from caffe_port.inference import choice, engines, optimized
from caffe_port.inference.choice import processor
from caffe_port.inference.engines import onnxruntime_module, openvino_core
from caffe_port.inference.planner import has_type

SIDE = 2048  # of the matrices
PEERS = ("onnxruntime", "openvino")
SECONDS, LEAST = 40, 2  # of all rounds together, and how many there are at least
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


@dataclass(frozen=True)
class Case:
    """A network's folder, its input's batch and side, its scores, and how many rounds at most."""

    folder: str
    batch: int
    size: int
    blob: str
    repeats: int

    def image(self) -> np.ndarray:
        """An input of the size and range of a real one."""
        shape = (self.batch, 3, self.size, self.size)
        return np.random.default_rng(0).normal(0, 60, shape).astype(np.float32)


CASES = {
    "LargeFOV 513 x 513": Case("deeplab_v2_vgg16_largefov", 1, 513, "fc8_interp", 9),
    "FCN-AlexNet 500 x 500": Case("fcn_alexnet", 1, 500, "score", 15),
    "ResNet-101 MSc 513 x 513": Case("deeplab_v2_resnet101_msc_aspp", 1, 513, "fc1_interp", 5),
    "LargeFOV 321 x 321, batch 4": Case("deeplab_v2_vgg16_largefov", 4, 321, "fc8_interp", 7),
}

Way = Callable[[], Any]


def with_onnxruntime(case: Case, folder: Path) -> Way:
    """The ONNX file in ONNX Runtime, by its own interface."""
    ort = onnxruntime_module()
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path, x = str(folder / "net.onnx"), case.image()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run([case.blob], {"data": x})[0]


def with_openvino(case: Case, folder: Path) -> Way:
    """The ONNX file in OpenVINO, by its own interface, for this size and in float32."""
    core, x = openvino_core(), case.image()
    model = core.read_model(str(folder / "net.onnx"))
    model.reshape({"data": list(x.shape)})
    threads = torch.get_num_threads()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
    return lambda: compiled({"data": x})[case.blob]


def layer_by_layer(case: Case, folder: Path) -> Way:
    """The net itself."""
    net, x = caffe_port.load(folder / "net.pt"), torch.from_numpy(case.image())

    def forward() -> Any:
        with torch.no_grad():
            return net(x, keep=[case.blob])[case.blob]

    return forward


def ours(**options: Any) -> Callable[[Case, Path], Way]:
    """The optimized net."""

    def make(case: Case, folder: Path) -> Way:
        fast = caffe_port.load(folder / "net.pt").optimized(**options)
        x = torch.from_numpy(case.image())
        return lambda: fast(x, keep=[case.blob])[case.blob]

    return make


WAYS: dict[str, Callable[[Case, Path], Way]] = {
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    "layer by layer": layer_by_layer,
    "optimized, torch": ours(engine="torch"),
    "optimized": ours(),
}
if has_type(torch.device("cpu"), torch.bfloat16):
    WAYS["optimized, bfloat16"] = ours(precision="bfloat16")


def compare(case: Case, folder: Path, with_memory: bool) -> dict[str, Any]:
    """One network: times, distances between the results, and memory."""
    net = with_random_weights(case.folder)
    adds = sum(layer.multiply_adds for layer in net.spec.layers if layer.params)
    adds = round(adds * case.batch * (case.size / net.spec.shapes["data"][2]) ** 2)
    net.save(folder / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe_port.export.ExportWarning)
        caffe_port.export.write_onnx(net, folder / "net.onnx")
    del net
    limit, share = matrix_products(adds)
    ways = {"matrix products": limit, **{n: make(case, folder) for n, make in WAYS.items()}}
    results = {name: way() for name, way in ways.items()}  # which also warms them up
    exact = torch.as_tensor(results["layer by layer"])
    distances = {n: _distance(torch.as_tensor(results[n]), exact) for n in WAYS}
    del results, exact
    table = _timed(ways, case.repeats, share)
    table["matrix products"]["billion multiply-adds"] = round(adds / 1e9, 1)
    del ways, limit
    for name in WAYS:
        if with_memory:
            table[name]["peak MB"] = peak_memory(name, case, folder)
        table[name]["from layer by layer"] = distances[name]
    return table


def _timed(ways: Mapping[str, Way], repeats: int, share: float) -> dict[str, dict[str, Any]]:
    """Seconds of each way, and their ratio to those of the faster peer.

    Medians of the processor's seconds are compared, and the least of the clock's, which other work
    on the machine adds to.
    """
    clocks = {"CPU s": time.process_time, "wall s": time.perf_counter}
    found = {name: {clock: [] for clock in clocks} for name in ways}
    started = time.perf_counter()
    for turn in range(repeats):
        if turn >= LEAST and time.perf_counter() - started > SECONDS:
            break
        for name, way in ways.items():
            gc.collect()
            before = {key: clock() for key, clock in clocks.items()}
            way()
            for key, clock in clocks.items():
                factor = share if name == "matrix products" else 1
                found[name][key].append(factor * (clock() - before[key]))
    cpu = {name: statistics.median(row["CPU s"]) for name, row in found.items()}
    wall = {name: min(row["wall s"]) for name, row in found.items()}
    peers = [peer for peer in PEERS if peer in ways]
    return {
        name: {
            "CPU s": round(cpu[name], 3),
            "wall s, best": round(wall[name], 3),
            "wall s, median": round(statistics.median(row["wall s"]), 3),
            "to the faster, CPU": round(cpu[name] / min(cpu[peer] for peer in peers), 2),
            "to the faster, wall": round(wall[name] / min(wall[peer] for peer in peers), 2),
            "rounds": len(row["CPU s"]),
        }
        for name, row in found.items()
    }


def matrix_products(adds: int) -> tuple[Way, float]:
    """Some products of large matrices, and how many times their work ``adds`` is."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    count = max(1, round(adds / SIDE**3))

    def multiply() -> None:
        for _ in range(count):
            torch.mm(a, b, out=out)

    return multiply, adds / (count * SIDE**3)


def _distance(x: torch.Tensor, exact: torch.Tensor) -> str:
    return f"{float((x - exact).abs().max() / exact.abs().max()):.1e}"


def peak_memory(way: str, case: Case, folder: Path) -> int:
    """Megabytes that loading and two passes add."""
    code = (
        "import sys, torch, pathlib, benchmarks.forward as f\n"
        "from benchmarks.measure import peak\n"
        "name, way, threads, folder = sys.argv[1:]\n"
        "torch.set_num_threads(int(threads))\n"
        "import onnx, caffe_port.inference, caffe_port.loading\n"
        "f.onnxruntime_module(), f.openvino_core()\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = peak()\n"
        "run = f.WAYS[way](f.CASES[name], pathlib.Path(folder))\n"
        "run(), run()\n"
        "print(peak() - before)\n"
    )
    (name,) = (known for known, each in CASES.items() if each == case)
    run = [sys.executable, "-c", code, name, way, str(torch.get_num_threads()), str(folder)]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    return int(found.split()[-1]) // 2**20


def titles() -> dict[str, tuple[Case, int, dict[str, str]]]:
    """Each table's title, network, number of threads, and limit of instructions."""
    return {
        f"{name}, {threads} thread{'s' * (threads > 1)}{', AVX2' if limit else ''}":
            (case, threads, limit)
        for name, case in CASES.items()
        for limit in ({}, AVX2)
        for threads in (1, 2)
    }  # fmt: skip


def table(title: str) -> dict[str, Any]:
    """The figures of a title, measured in this process, whose environment has the limit."""
    case, threads, limit = titles()[title]
    if limit:
        for module in (choice, optimized):
            module.installed = lambda: ["torch", "openvino"]  # type: ignore[attr-defined]
        for way in ("onnxruntime", "optimized, bfloat16"):
            WAYS.pop(way, None)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        # what is remembered of other times says nothing of this one
        os.environ["CAFFE_PORT_CACHE"] = folder
        before = os.getloadavg()[0]
        found = compare(case, Path(folder), with_memory=threads == 1 and not limit)
        found["optimized"]["engine"] = _chosen()
    found["matrix products"]["load of the machine"] = f"{before:.1f} to {os.getloadavg()[0]:.1f}"
    return found


def _chosen() -> str:
    """The engine that 'auto' measured to be the fastest."""
    (entry,) = json.loads(choice.memory().read_text())
    return engines.version_of(entry["engine"])


def main() -> None:
    """Measures and reports."""
    known, only = RESULTS / "forward.json", os.environ.get("FORWARD", "")
    tables: dict[str, Any] = {}
    if only and known.is_file():
        tables = json.loads(known.read_text())["tables"]
    for title, (_, _, limit) in titles().items():
        if title in tables if only == "missing" else not title.startswith(only):
            continue
        code = "import sys, json, benchmarks.forward as f; print(json.dumps(f.table(sys.argv[1])))"
        run = [sys.executable, "-c", code, title]
        environment = os.environ | limit
        done = subprocess.run(run, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        tables[title] = json.loads(done.stdout.splitlines()[-1])
        packages = versions("torch", "numpy", "onnx", "onnxruntime", "openvino")
        found = {"processor": processor(), **packages}
        report("forward", {"versions": found, "tables": dict(sorted(tables.items()))})


if __name__ == "__main__":
    main()
