"""A forward pass compared with OpenCV's DNN, plain torch and bare matrix products.

One thread is compared in CPU seconds, which other work on the machine leaves alone; two threads in
wall seconds: run that on an idle machine.

The networks have their published channels and random weights. The limit is the time of the same
multiply-adds in products of 2048 x 2048 matrices. Peak memory is what loading the net from its
caffemodel and one forward pass add to a process of its own. Run it with
`python -m benchmarks forward`; the environment variable FORWARD names one table alone, such as
`LargeFOV 513 x 513, 1 thread`, whose figures are put among the others'.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe_port
from benchmarks.measure import RESULTS, interleave, report, summary, versions
from benchmarks.nets import with_random_weights
from caffe_port.inference.planner import has_type
from caffe_port.net import Net

CHART = Path(__file__).parent.parent / "docs" / "images" / "forward.svg"
SIDE = 2048  # of the matrices


@dataclass(frozen=True)
class Case:
    """A network's folder, its input's side, its scores, and how often each way is measured."""

    folder: str
    size: int
    blob: str
    repeats: int


CASES = {
    "LargeFOV 513 x 513": Case("deeplab_v2_vgg16_largefov", 513, "fc8_interp", 5),
    "FCN-AlexNet 500 x 500": Case("fcn_alexnet", 500, "score", 7),
    "ResNet-101 MSc 513 x 513": Case("deeplab_v2_resnet101_msc_aspp", 513, "fc1_interp", 2),
}


def write_for_opencv(net: Net, folder: Path) -> tuple[str, str]:
    """The net's files. OpenCV knows no shrink_factor: each Interp gets its height and width."""
    from google.protobuf import text_format

    message = net.spec.message()
    for layer in message.layer:
        if layer.type == "Interp":
            height, width = net.spec.shapes[layer.top[0]][2:]
            layer.ClearField("interp_param")
            layer.interp_param.height, layer.interp_param.width = height, width
    text, weights = folder / "net.prototxt", folder / "net.caffemodel"
    text.write_text(text_format.MessageToString(message))
    net.save(weights)
    return str(text), str(weights)


def image_for(case: Case) -> np.ndarray:
    """An input of the size and range of a real one."""
    return np.random.default_rng(0).normal(0, 60, (1, 3, case.size, case.size)).astype(np.float32)


def with_opencv(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """OpenCV's forward pass."""
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    net, x = cv2.dnn.readNetFromCaffe(text, weights), image_for(case)

    def forward() -> Any:
        net.setInput(x)
        return net.forward()

    return forward


def with_torch(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """The net, layer by layer."""
    net, x = caffe_port.load(text, weights), torch.from_numpy(image_for(case))

    def forward() -> Any:
        with torch.no_grad():
            return net(x, keep=[case.blob])[case.blob]

    return forward


def with_plan(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """The optimized net."""
    net = caffe_port.load(text, weights).optimized()
    x = torch.from_numpy(image_for(case))
    return lambda: net(x, keep=[case.blob])[case.blob]


def with_winograd(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """The optimized net with Winograd's form of 3 x 3 filters, which pays where cores are free."""
    net = caffe_port.load(text, weights).optimized(winograd=True)
    x = torch.from_numpy(image_for(case))
    return lambda: net(x, keep=[case.blob])[case.blob]


def with_plan_labels(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """The optimized net where only labels are wanted."""
    net = caffe_port.load(text, weights).optimized()
    x = torch.from_numpy(image_for(case))
    return lambda: net.labels(x, case.blob)


def with_bfloat16(case: Case, text: str, weights: str) -> Callable[[], Any]:
    """The optimized net with convolutions in bfloat16, which is outside of the parity rule."""
    net = caffe_port.load(text, weights).optimized(precision="bfloat16")
    x = torch.from_numpy(image_for(case))
    return lambda: net(x, keep=[case.blob])[case.blob]


WAYS = {
    "OpenCV": with_opencv,
    "torch, layer by layer": with_torch,
    "optimized": with_plan,
    "optimized, Winograd": with_winograd,
    "optimized, labels": with_plan_labels,
}
if has_type(torch.device("cpu"), torch.bfloat16):
    WAYS["optimized, bfloat16"] = with_bfloat16


def compare(case: Case, folder: Path) -> dict[str, Any]:
    """One network: times, distances between the results, and memory."""
    net = with_random_weights(case.folder)
    adds = sum(layer.multiply_adds for layer in net.spec.layers if layer.params)
    files = write_for_opencv(net, folder)
    del net
    limit, share = matrix_products(adds)
    ways = {"matrix products": limit, **{n: make(case, *files) for n, make in WAYS.items()}}
    results = {name: way() for name, way in ways.items()}  # which also warms them up
    exact = results["torch, layer by layer"]
    distances = {
        name: _distance(torch.as_tensor(results[name]), exact)
        for name in WAYS
        if name != "optimized, labels"
    }
    del results, exact
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = interleave(ways, case.repeats, warmup=0, clock=clock)
    seconds["matrix products"] = [t * share for t in seconds["matrix products"]]
    table: dict[str, dict[str, Any]] = summary(seconds, "OpenCV")
    for name, row in table.items():
        row["to matrix products"] = _median_ratio(seconds[name], seconds["matrix products"])
    del ways
    for name in WAYS:
        table[name]["peak MB"] = peak_memory(name, case, files)
    for name, distance in distances.items():
        table[name]["from layer by layer"] = distance
    table["matrix products"]["billion multiply-adds"] = round(adds / 1e9, 1)
    return table


def matrix_products(adds: int) -> tuple[Callable[[], None], float]:
    """Some products of large matrices, and how many times their work ``adds`` is."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    count = max(1, round(adds / SIDE**3))

    def multiply() -> None:
        for _ in range(count):
            torch.mm(a, b, out=out)

    return multiply, adds / (count * SIDE**3)


def _median_ratio(seconds: list[float], base: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(seconds, base, strict=True)), 3)


def _distance(x: torch.Tensor, exact: torch.Tensor) -> str:
    return f"{float((x - exact).abs().max() / exact.abs().max()):.1e}"


def peak_memory(way: str, case: Case, files: tuple[str, str]) -> int:
    """Megabytes that loading and one forward pass add."""
    code = (
        "import sys, torch, benchmarks.forward as f\n"
        "from benchmarks.measure import peak\n"
        "name, way, threads, *files = sys.argv[1:]\n"
        "torch.set_num_threads(int(threads))\n"
        "if way == 'OpenCV': import cv2\n"
        "import caffe_port.inference.program, caffe_port.loading\n"
        "before = peak()\n"
        "f.WAYS[way](f.CASES[name], *files)()\n"
        "print(peak() - before)\n"
    )
    (name,) = (known for known, each in CASES.items() if each == case)
    run = [sys.executable, "-c", code, name, way, str(torch.get_num_threads()), *files]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    return int(found.split()[-1]) // 2**20


def draw(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """docs/images/forward.svg: seconds of each way as a part of OpenCV's."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colours = ("#bbbbbb", "#d08770", "#8fa1b3", "#2e6f9e", "#5fa8d3", "#9fd3c7")
    names, rows = ["matrix products", *WAYS], list(enumerate(tables.values()))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "forward", "font.size": 9}):
        figure = Figure(figsize=(7.2, 1 + 0.8 * len(tables)), layout="constrained")
        axes = figure.subplots()
        for number, (name, colour) in enumerate(zip(names, colours, strict=False)):
            shown = [(i + 0.13 * number, t[name]["ratio"]) for i, t in rows if name in t]
            places, ratios = [place for place, _ in shown], [ratio for _, ratio in shown]
            axes.barh(places, ratios, 0.12, color=colour, label=name)
        titles = [", ".join(title.split(", ")[:2]) for title in tables]
        axes.set_yticks([group + 0.3 for group in range(len(tables))], titles)
        axes.invert_yaxis()
        axes.set_xlabel("seconds of a forward pass, OpenCV's = 1")
        figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(CHART, metadata={"Date": None})


def main() -> None:
    """Measures and reports."""
    known, only = RESULTS / "forward.json", os.environ.get("FORWARD", "")
    tables: dict[str, Any] = {}
    if only and known.is_file():
        tables = json.loads(known.read_text())["tables"]
    for name, case in CASES.items():
        for threads, clock in ((1, "1 thread, CPU seconds"), (2, "2 threads, wall seconds")):
            title = f"{name}, {clock}"
            if not title.startswith(only):
                continue
            torch.set_num_threads(threads)
            with tempfile.TemporaryDirectory() as folder:
                tables[title] = compare(case, Path(folder))
    draw(tables)
    packages = versions("torch", "numpy", "opencv-python-headless")
    report("forward", {"versions": packages, "tables": dict(sorted(tables.items()))})


if __name__ == "__main__":
    main()
