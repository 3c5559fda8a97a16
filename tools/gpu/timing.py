"""Times on the device, beside plain torch: warmed up, taken in turn, medians.

Plain torch is the net as `convert` writes it for torch alone, and the feedback losses written
naively, every pixel with every template. Weights are random.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import caffe_port
from benchmarks.feedback import BATCH, GRID, labels_of, naive_loss
from benchmarks.nets import with_random_weights
from benchmarks.train import CASES as PUBLISHED
from benchmarks.train import LargeFOV
from caffe_port.export import ExportWarning, emit_module
from caffe_port.losses import FeedbackOptions, feedback_loss
from caffe_port.net import Net
from tests.export.making import imported
from tools.gpu.outcome import Row, Setting
from tools.gpu.parts import ROOT

Way = Callable[[], object]
CASES = {
    "LargeFOV 321 x 321": ("deeplab_v2_vgg16_largefov", 321, "fc8_interp"),
    "LargeFOV 513 x 513": ("deeplab_v2_vgg16_largefov", 513, "fc8_interp"),
    "ResNet-101 MSc 513 x 513": ("deeplab_v2_resnet101_msc_aspp", 513, "fc1_interp"),
}
SMALL = {"FCN-AlexNet 65 x 65": ("fcn_alexnet", 65, "score")}
TRAIN = ROOT / "prototxt" / "deeplab_v2_vgg16_largefov" / "train.prototxt"
VARIABLES = {"EXP": "voc12", "NUM_LABELS": "21", "NET_ID": "vgg", "DATA_ROOT": "", "TRAIN_SET": "t"}
SCORES = "fc8_voc12"
WARM_UP, REPEATS = 3, 15


def run(setting: Setting) -> Iterator[Row]:
    """The losses, the forward passes, a training step."""
    items, grid = (1, 9) if setting.small else (BATCH, GRID)
    for channels, words in ((21, "fc8"), (32 if setting.small else 1024, "fc7")):
        if setting.wants(f"feedback losses at {words}"):
            group = f"times: feedback losses at {words}, N = {items}, {grid} x {grid}"
            yield from timed(group, losses((items, channels, grid, grid), setting.device), setting)
    for name, (folder, side, blob) in (SMALL if setting.small else CASES).items():
        if setting.wants(name):
            yield from timed(f"times: {name}", forward(folder, side, blob, setting), setting)
    if setting.wants("training step"):
        words = "N = 1, 65 x 65" if setting.small else f"N = {BATCH}, 321 x 321"
        yield from timed(f"times: training step of LargeFOV, {words}", steps(setting), setting)
    if setting.on_gpu and setting.wants("torch.compile"):
        yield from timed("times: torch.compile, LargeFOV 321 x 321", compiled(setting), setting)


def timed(group: str, ways: Mapping[str, Way], setting: Setting) -> Iterator[Row]:
    """Median milliseconds of each way, their ratio to the first, and the most memory."""
    clock = on_gpu if setting.on_gpu else on_cpu
    found: dict[str, list[float]] = {name: [] for name in ways}
    memory = {}
    warm, repeats = (1, 1) if setting.small else (WARM_UP, REPEATS)
    for turn in range(-warm, repeats):
        for name, way in ways.items():
            if setting.on_gpu:
                torch.cuda.reset_peak_memory_stats(setting.device)
            milliseconds = clock(way)
            if turn >= 0:
                found[name].append(milliseconds)
            if setting.on_gpu:
                memory[name] = torch.cuda.max_memory_allocated(setting.device) >> 20
    base = found[next(iter(ways))]
    for name, values in found.items():
        ms = statistics.median(values)
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
        words = f"{ms:.2f} ms, {ratio:.2f} of the first"
        words += f", peak {memory[name]} MiB" if name in memory else ""
        figures = {"ms": round(ms, 4), "ratio": round(ratio, 3)}
        yield Row(group, name, None, words, figures=figures)
    del ways
    gc.collect()


def on_gpu(way: Way) -> float:
    """Milliseconds between two events on the stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    way()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def on_cpu(way: Way) -> float:
    """Milliseconds of the clock."""
    started = time.perf_counter()
    way()
    return 1000 * (time.perf_counter() - started)


def forward(folder: str, side: int, blob: str, setting: Setting) -> dict[str, Way]:
    """A forward pass of one image, by several ways."""
    net = with_random_weights(folder)
    x = (torch.randn(1, 3, side, side) * 60).to(setting.device)
    plain, net = plain_torch(net).to(setting.device), net.to(setting.device)
    fast = net.optimized(engine="torch")
    ways: dict[str, Callable[[], Any]] = {
        "plain torch": lambda: plain(x),
        "layer by layer": lambda: net(x, keep=[blob])[blob],
        "optimized": lambda: fast(x, keep=[blob])[blob],
    }
    if setting.on_gpu:
        half = net.optimized(engine="torch", precision="bfloat16")
        ways["optimized, bfloat16"] = lambda: half(x, keep=[blob])[blob]
    return {name: without_gradients(way) for name, way in ways.items()}


def compiled(setting: Setting) -> dict[str, Way]:
    """The same pass as one compiled graph, last because it takes long to compile."""
    folder, side, blob = CASES["LargeFOV 321 x 321"]
    net = with_random_weights(folder).to(setting.device)
    x = (torch.randn(1, 3, side, side) * 60).to(setting.device)
    made = torch.compile(lambda y: net(y, keep=[blob])[blob], fullgraph=True)
    return {
        "layer by layer": without_gradients(lambda: net(x, keep=[blob])[blob]),
        "torch.compile": without_gradients(lambda: made(x)),
    }


def without_gradients(way: Callable[[], Any]) -> Way:
    """The way under no_grad."""

    def call() -> None:
        with torch.no_grad():
            way()

    return call


def plain_torch(net: Net) -> torch.nn.Module:
    """The net as a module that needs torch only."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)
        path = Path(folder) / "plain_net.py"
        state = emit_module(net, path)
        made: torch.nn.Module = imported(path)
        made.load_state_dict(torch.load(state, weights_only=True))
    return made.eval()


def steps(setting: Setting) -> dict[str, Way]:
    """Forward and backward of LargeFOV in TRAIN: plain torch, here, with the feedback loss."""
    items, side, grid = (1, 65, 9) if setting.small else (BATCH, 321, GRID)
    shapes = {"data": (items, 3, side, side), "label": (items, 1, side, side)}
    net = caffe_port.load(
        TRAIN, phase="TRAIN", variables=VARIABLES, dialect="deeplab2", input_shapes=shapes
    ).to(setting.device)
    blobs = {"data": torch.randn(*shapes["data"]) * 50}
    blobs["label"] = labels_of(items, side)[:, None].float()
    blobs = {name: blob.to(setting.device) for name, blob in blobs.items()}
    plain = LargeFOV(PUBLISHED[1]).to(setting.device)
    labels = labels_of(items, grid).to(setting.device)
    options = FeedbackOptions(ignore_labels=(255,))
    pairs = [pair for x in net.spec.layers for pair in zip(x.tops, x.loss_weights, strict=True)]
    weighed = [top for top, weight in pairs if weight]

    def plain_step() -> None:
        plain.zero_grad()
        found = torch.nn.functional.cross_entropy(plain(blobs["data"]), labels, ignore_index=255)
        torch.autograd.backward(found)

    def step(path: str = "") -> None:
        net.zero_grad()
        found = net(blobs, keep=[*weighed, SCORES])
        losses = [found[name] for name in weighed]
        if path:
            losses.append(feedback_loss(found[SCORES], labels, options=options, path=path))
        torch.autograd.backward(losses)

    return {
        "plain torch": plain_step,
        "here": step,
        "here, with the feedback loss in torch": lambda: step("torch"),
        "here, with the feedback loss in Triton": lambda: step("triton"),
    }


def losses(shape: tuple[int, int, int, int], device: str) -> dict[str, Way]:
    """A loss's forward and backward at fc8, whose 21 channels are the scores, or at fc7."""
    items, channels, *grid = shape
    features = torch.randn(*shape).to(device).requires_grad_()
    scores = None if channels == 21 else torch.randn(items, 21, *grid).to(device)
    labels = labels_of(items, grid[0]).to(device)
    options = FeedbackOptions(ignore_labels=(255,))

    def way(loss: Callable[[], Tensor]) -> Way:
        def step() -> None:
            features.grad = None
            torch.autograd.backward(loss())

        return step

    rated = features.detach() if scores is None else scores
    ways = {"naive torch": way(lambda: naive_loss(features, labels, rated))}
    for path in ("torch", "triton"):
        ways[path] = way(
            lambda path=path: feedback_loss(features, labels, scores, options, path=path)  # type: ignore[misc]
        )
    return ways
