"""``caffe device_query``: what torch knows of the GPUs."""

from __future__ import annotations

from caffe_port.cli.caffe_tools._net import gpu_ids
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import log


def device_query(flags: Flags) -> None:
    """Describes the GPUs that -gpu names, or says that there are none."""
    import torch

    log(f"Querying GPUs {flags.gpu}", place="caffe.cpp:138")
    count = torch.cuda.device_count()
    if not count:
        log("torch finds no GPU here.", place="common.cpp:1")
        return
    for number in gpu_ids(flags.gpu):
        if not 0 <= number < count:
            raise UsageError(f"-gpu {number}: there are {count} GPUs, numbered from 0")
        found = torch.cuda.get_device_properties(number)
        log(f"Device id:                     {number}", place="common.cpp:178")
        log(f"Major revision number:         {found.major}", place="common.cpp:179")
        log(f"Minor revision number:         {found.minor}", place="common.cpp:180")
        log(f"Name:                          {found.name}", place="common.cpp:181")
        log(f"Total global memory:           {found.total_memory}", place="common.cpp:182")
        log(f"Number of multiprocessors:     {found.multi_processor_count}", place="common.cpp:199")
