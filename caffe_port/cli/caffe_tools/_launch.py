"""A training on several GPUs: one process for each, which torchrun starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from caffe_port.errors import UsageError
from caffe_port.solver.log import log


def command(processes: int, arguments: Sequence[str]) -> list[str]:
    """What one would type to run ``caffe`` with these arguments in several processes."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", "-m", "caffe_port.cli.caffe", *arguments,
    ]  # fmt: skip


def run_on(gpus: Sequence[int]) -> NoReturn:
    """Becomes the parent of one process per GPU, each with this one's command line."""
    log(
        f"Training on {len(gpus)} GPUs. They share each batch of batch_size items; upstream gives "
        "each GPU a batch of its own: multiply batch_size by their number for that.",
        place="caffe.cpp:1",
    )
    words = command(len(gpus), sys.argv[1:])
    sys.stderr.flush()
    os.execv(words[0], words)


def own_gpu(gpus: Sequence[int], there: int) -> int:
    """The GPU of this process, one of several that torchrun started.

    Args:
        gpus: those that were named; one alone stands for all of the machine.
        there: how many the machine has.
    Raises:
        UsageError: there are fewer GPUs than processes.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    among = list(gpus) if len(gpus) > 1 else list(range(there))
    if local >= len(among):
        raise UsageError(
            f"process {local} on this machine has no GPU of its own; there are {len(among)}: start "
            "as many processes"
        )
    return among[local]
