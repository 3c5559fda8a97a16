"""Compiles the kernels for GPUs that are not present, and reads the resources that they need.

usage: python -m caffe_port.losses.ahead_of_time [COMPUTE_CAPABILITY ...]
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from caffe_port.losses import feedback_kernels, softmax_triton
from caffe_port.losses.feedback_triton import BLOCKS
from caffe_port.losses.launching import accumulator
from caffe_port.losses.softmax_triton import block_sizes

CAPABILITIES = (80, 90, 100)
DTYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}
KERNELS = {
    **{name: getattr(feedback_kernels, name) for name in BLOCKS},
    "softmax_forward": softmax_triton.softmax_forward,
    "softmax_backward": softmax_triton.softmax_backward,
}
# the most expensive of each choice
_CHOICES = {
    "CENTRED": True, "LEARNED": True, "MARGIN": 0.1, "EPS": 1e-6, "CORRECT_ONLY": True,
    "MEAN": False, "WEIGHTED": True, "SUM_WEIGHTS": False,
    "stride_p": 1, "out_p": 1,
}  # fmt: skip
_NUMBERS = {"classes", "channels", "pixels", "blocks", "most", "words_each"}
_WHOLE = {"label": "*i32", "words": "*i32", "right": "*i8"}


def _type(kernel: str, name: str, dtype: torch.dtype) -> str:
    """Triton's type of a kernel's argument, by its name."""
    if name in _NUMBERS or re.match("(stride|out)_", name):
        return "i32"
    as_given = {"features", "scores"}
    if kernel in {"feature_gradients", "softmax_backward"}:
        as_given.add("out")
    if name in as_given:
        return "*" + DTYPES[dtype]
    return _WHOLE.get(name, "*fp64" if dtype == torch.float64 else "*fp32")


def resources(
    kernel: str, dtype: torch.dtype, capability: int, classes: int = 21
) -> dict[str, int]:
    """Compiles a kernel as contiguous tensors would launch it.

    Args:
        kernel: one of KERNELS.
        dtype: of features and scores.
        capability: 80 is compute capability 8.0.
        classes: the softmax's block depends on them.
    Returns:
        registers of a thread; bytes of stack and local memory of a thread, where spilled registers
        go; bytes of shared memory of a block.
    Raises:
        RuntimeError: ptxas or cuobjdump, which Triton brings, failed.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = KERNELS[kernel]
    sizes = BLOCKS.get(kernel) or block_sizes(classes)
    known: dict[str, Any] = {**_CHOICES, **sizes, "ACC": accumulator(dtype)}
    constants = {name: known[name] for name in function.arg_names if name in known}
    signature = {
        name: "constexpr" if name in constants else _type(kernel, name, dtype)
        for name in function.arg_names
    }
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    limits = {name: sizes[name] for name in ("maxnreg",) if name in sizes}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=limits)
    return _read(compiled.asm["cubin"], triton.knobs.nvidia.cuobjdump.path) | {
        "shared": compiled.metadata.shared
    }


def _read(cubin: bytes, cuobjdump: str) -> dict[str, int]:
    """Registers, stack and local memory of a cubin."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        run = [cuobjdump, "-res-usage", str(path)]
        text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    if found is None:
        raise RuntimeError(f"cuobjdump reports no resources: {text!r}")
    return dict(zip(("registers", "stack", "local"), map(int, found.groups()), strict=True))


def table(
    capabilities: Iterable[int] = CAPABILITIES, dtypes: Iterable[torch.dtype] = tuple(DTYPES)
) -> dict[str, dict[str, int]]:
    """The resources of each kernel, by names such as 'sm_80 float32 similar'."""
    return {
        f"sm_{capability} {str(dtype).removeprefix('torch.')} {kernel}": resources(
            kernel, dtype, capability
        )
        for capability, dtype, kernel in itertools.product(capabilities, dtypes, KERNELS)
    }


if __name__ == "__main__":
    print(json.dumps(table(tuple(map(int, sys.argv[1:])) or CAPABILITIES), indent=1))
