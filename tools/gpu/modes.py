"""Faster ways to compute, next to the exact result: each has the bound of its precision.

Exact is the bundled net in float64 on the CPU; errors are parts of the scores' peak.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from caffe_port.net import Net
from caffe_port.parity.tolerance import WHOLE_NET_OF_PEAK
from caffe_port.solver.modes import Modes
from tools.gpu.nets import BLOB, bundled, images, loss_error, train
from tools.gpu.outcome import Row, Setting, within

# of the peak: eight or eleven bits through a dozen layers
OF_PEAK = {"float32": WHOLE_NET_OF_PEAK, "TF32": 1e-2, "float16": 1e-2, "bfloat16": 8e-2}
# of the losses of eight steps
OF_LOSS = {"float32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
Way = Callable[[Tensor], Tensor]
OUTPUTS, GRADIENTS, LOSSES = "modes: outputs", "modes: gradients", "modes: losses of a training"


def run(setting: Setting) -> Iterator[Row]:
    """Outputs, gradients, then trainings."""
    torch.backends.cudnn.allow_tf32 = False
    net, x = bundled(), images(1 if setting.small else 4)
    with torch.no_grad():
        exact = copy.deepcopy(net).double()(x.double(), keep=[BLOB])[BLOB]
    placed = net.to(setting.device)
    for name, (kind, way) in ways(placed, setting).items():
        if setting.wants(name):
            with torch.inference_mode():
                found = way(x.to(setting.device))
            yield within(OUTPUTS, name, of_peak(found, exact), OF_PEAK[kind])
    if setting.on_gpu and setting.wants("TF32"):
        torch.backends.cudnn.allow_tf32 = True
        with torch.inference_mode():
            found = scores(placed)(x.to(setting.device))
        torch.backends.cudnn.allow_tf32 = False
        yield within(OUTPUTS, "TF32, as torch has it by default", of_peak(found, exact),
                     OF_PEAK["TF32"])  # fmt: skip
    yield from compiled(placed, x, exact, setting)
    yield from trained(setting)


def of_peak(found: Tensor, exact: Tensor) -> float:
    """The largest error, of the peak."""
    return float((found.double().cpu() - exact).abs().max() / exact.abs().max())


def scores(net: Net) -> Way:
    """The net as it is."""

    def way(x: Tensor) -> Tensor:
        found: Tensor = net(x, keep=[BLOB])[BLOB]
        return found

    return way


def under_autocast(net: Net, dtype: torch.dtype, device: str) -> Way:
    """The net with products in 16 bits."""

    def way(x: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, dtype):
            return scores(net)(x)

    return way


def ways(net: Net, setting: Setting) -> dict[str, tuple[str, Way]]:
    """Name -> the precision whose bound it has, and the way."""

    def last(x: Tensor) -> Tensor:
        return scores(net)(x.contiguous(memory_format=torch.channels_last))

    fast = net.optimized(engine="torch")
    found: dict[str, tuple[str, Way]] = {
        "float32": ("float32", scores(net)),
        "channels_last": ("float32", last),
        "optimized": ("float32", lambda x: fast(x, keep=[BLOB])[BLOB]),
    }
    kinds = ("bfloat16", "float16") if setting.on_gpu else ("bfloat16",)
    for kind in kinds:
        found[f"autocast, {kind}"] = (
            kind, under_autocast(net, getattr(torch, kind), setting.device)
        )  # fmt: skip
    for kind in kinds if setting.on_gpu else ():
        found[f"optimized, {kind}"] = (kind, in_precision(net, kind))
    return found


def in_precision(net: Net, kind: str) -> Way:
    """The optimized net with convolutions in 16 bits."""
    fast = net.optimized(precision=kind, engine="torch")  # type: ignore[arg-type]
    return lambda x: fast(x, keep=[BLOB])[BLOB]


def compiled(net: Net, x: Tensor, exact: Tensor, setting: Setting) -> Iterator[Row]:
    """torch.compile as one graph: outputs and gradients; on the CPU without generating code."""
    if not setting.wants("compile"):
        return
    backend = "inductor" if setting.on_gpu else "eager"
    made = torch.compile(scores(net), fullgraph=True, backend=backend)
    with torch.no_grad():
        error = of_peak(made(x.to(setting.device)), exact)
    yield within(OUTPUTS, f"compile, fullgraph, {backend}", error, OF_PEAK["float32"])
    found, wanted = (gradients(way, net, x.to(setting.device)) for way in (made, scores(net)))
    error = max(of_peak(a, b) for a, b in zip(found, wanted, strict=True))
    yield within(GRADIENTS, f"compile, fullgraph, {backend}", error, 1e-3)


def gradients(way: Way, net: Net, x: Tensor) -> list[Tensor]:
    """Of all parameters, for the mean square of the scores."""
    learned = [param for param in net.parameters() if param.requires_grad]
    found = torch.autograd.grad(way(x).square().mean(), learned, allow_unused=True)
    return [diff.double().cpu() for diff in found if diff is not None]


def trained(setting: Setting) -> Iterator[Row]:
    """The modes of `caffe train`, next to float32 on the CPU."""
    modes = {
        "-channels_last": (Modes(channels_last=True), "float32"),
        "-checkpoint": (Modes(checkpoint=True), "float32"),
        "-amp bf16": (Modes(amp="bf16"), "bf16"),
    }
    if setting.on_gpu:
        modes["-amp fp16"] = (Modes(amp="fp16"), "fp16")
        modes["-compile"] = (Modes(compile=True), "float32")
    with tempfile.TemporaryDirectory() as folder:
        wanted, _ = train(Path(folder) / "cpu", "cpu")
        for name, (chosen, kind) in modes.items():
            if setting.wants(name):
                found, _ = train(Path(folder) / name, setting.device, modes=chosen)
                yield within(LOSSES, name, loss_error(found, wanted), OF_LOSS[kind])
