"""How exact torch's long float32 sums are, by kernel, next to products of matrices.

Each layer runs in float64 and in float32: plainly, with oneDNN held to older instructions, with
oneDNN off, inside `exact_sums` (what `caffe-port verify` uses), and as im2col and numpy's sgemm.
Figures are largest errors as parts of the peak, and CPU seconds of one pass forward and backward.
Run it with `python -m benchmarks rounding`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import report, versions
from caffe_port.parity.bench import exact_sums

Table: TypeAlias = dict[str, dict[str, float]]
QUANTITIES = ("top", "bottom diff", "weight diff", "bias diff")


class Layer(NamedTuple):
    """A convolution of square kernels and maps that keeps the size."""

    images: int
    inputs: int
    outputs: int
    kernel: int
    dilation: int
    size: int


#: outputs and sizes are less than published, which changes no sum but those over pixels
LAYERS = {
    "conv5_1: 512 channels, 3 x 3": Layer(1, 512, 128, 3, 1, 24),
    "fc6: 512 channels, 7 x 7": Layer(1, 512, 64, 7, 1, 16),
    "fc6: 512 channels, 7 x 7, dilation 4": Layer(1, 512, 64, 7, 4, 24),
    "fc6: 512 channels, 3 x 3, dilation 12": Layer(1, 512, 128, 3, 12, 24),
    "fc7: 1024 channels, 1 x 1": Layer(1, 1024, 128, 1, 1, 24),
    "conv3_2: 256 channels, 3 x 3, 16 images": Layer(16, 256, 64, 3, 1, 20),
}
#: oneDNN's instruction set -> the name of its rows
KERNELS = {"": "oneDNN, best", "AVX2": "oneDNN, AVX2", "SSE41": "oneDNN, SSE4.1"}


def _run(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor, diff: Tensor) -> list[Tensor]:
    leaves = [part.clone().requires_grad_() for part in (x, weight, bias)]
    pad = layer.dilation * (layer.kernel // 2)
    top = functional.conv2d(*leaves, padding=pad, dilation=layer.dilation)
    top.backward(diff)
    return [top.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _with_numpy(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor, _: Tensor) -> list[Tensor]:
    """The tops alone."""
    pad = layer.dilation * (layer.kernel // 2)
    columns = functional.unfold(x, layer.kernel, layer.dilation, pad).numpy()
    filters = weight.flatten(1).numpy()
    tops = np.stack([filters @ image for image in columns]) + bias.numpy()[:, None]
    return [torch.from_numpy(tops).reshape(len(x), -1, *x.shape[2:])]


def _inputs(layer: Layer) -> list[Tensor]:
    rng = np.random.default_rng(0)
    shapes = [
        (layer.images, layer.inputs, layer.size, layer.size),
        (layer.outputs, layer.inputs, layer.kernel, layer.kernel),
        (layer.outputs,),
        (layer.images, layer.outputs, layer.size, layer.size),
    ]
    parts = [torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in shapes]
    return [parts[0].relu(), parts[1] * (2 / parts[1][0].numel()) ** 0.5, *parts[2:]]


def _off() -> AbstractContextManager[object]:
    return torch.backends.mkldnn.flags(enabled=False)


def _tables(kernels: str) -> dict[str, Table]:
    """Figures of this process, whose oneDNN was held to ``kernels``; all ways where to none."""
    ways: dict[str, tuple[Callable[..., list[Tensor]], Callable[[], AbstractContextManager]]]
    ways = {KERNELS[kernels]: (_run, nullcontext)}
    if not kernels:
        ways |= {"oneDNN off": (_run, _off), "exact_sums": (_run, exact_sums)}
        ways |= {"im2col and numpy": (_with_numpy, nullcontext)}
    tables: dict[str, Table] = {}
    for name, layer in LAYERS.items():
        parts = _inputs(layer)
        exact = _run(layer, *(part.double() for part in parts))
        tables[name] = {}
        for way, (function, context) in ways.items():
            with context():
                function(layer, *parts)
                began = time.process_time()
                found = function(layer, *parts)
                seconds = time.process_time() - began
            errors = [
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(found, exact, strict=False)
            ]
            figures = {q: float(f"{e:.1e}") for q, e in zip(QUANTITIES, errors, strict=False)}
            tables[name][way] = {**figures, "CPU seconds": round(seconds, 4)}
    return tables


def main() -> None:
    """Measures each instruction set in a process of its own and reports."""
    tables: dict[str, Table] = {name: {} for name in LAYERS}
    for kernels in KERNELS:
        environ = {**os.environ, "ONEDNN_MAX_CPU_ISA": kernels or "DEFAULT"}
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.rounding", kernels]
        text = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        for name, table in json.loads(text.stdout).items():
            tables[name] |= table
    report("rounding", {"versions": versions("torch", "numpy"), "tables": tables})


if __name__ == "__main__":
    print(json.dumps(_tables(sys.argv[1])))
