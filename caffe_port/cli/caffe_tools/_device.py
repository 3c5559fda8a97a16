"""Choosing where to compute."""

from __future__ import annotations

from caffe_port.errors import UsageError
from caffe_port.solver.log import WARNING, log

_PLACE = "caffe.cpp:1"


def gpu_ids(flag: str) -> list[int]:
    """The GPUs that -gpu names: numbers with commas, or 'all'; -1, as DeepLab v1 has it, is none.

    Raises:
        UsageError: something else.
    """
    if flag == "all":
        import torch

        return list(range(torch.cuda.device_count()))
    try:
        wanted = [int(part) for part in flag.split(",")] if flag else []
    except ValueError:
        raise UsageError(f"-gpu is '{flag}'; expected numbers with commas, or 'all'") from None
    return [] if wanted == [-1] else wanted


def use_device(flag: str) -> None:
    """Computes on the GPU that -gpu names, else on the CPU, and says so.

    One of several processes takes its own of the GPUs.

    Raises:
        UsageError: several GPUs, or one that is not there while others are.
    """
    import torch

    from caffe_port.cli.caffe_tools._launch import own_gpu
    from caffe_port.live import mode
    from caffe_port.solver.ranks import is_one_of_several

    wanted = gpu_ids(flag)
    if wanted and torch.cuda.is_available() and is_one_of_several():
        wanted = [own_gpu(wanted, torch.cuda.device_count())]
    if len(wanted) > 1:
        raise UsageError(f"-gpu {flag}: one process computes on one GPU; give one number")
    if wanted and not torch.cuda.is_available():
        log(f"GPU {wanted[0]} is asked for, but torch finds none here.", WARNING, _PLACE)
        wanted = []
    if not wanted:
        mode.set_mode_cpu()
        log("Use CPU.", place=_PLACE)
        return
    mode.set_device(wanted[0])
    mode.set_mode_gpu()
    log(f"Using GPUs {wanted[0]}", place=_PLACE)
    log(f"GPU {wanted[0]}: {torch.cuda.get_device_name(wanted[0])}", place=_PLACE)
