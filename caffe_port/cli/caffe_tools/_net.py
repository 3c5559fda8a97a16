"""The device and the net of Caffe's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.solver.log import WARNING, Place, log

if TYPE_CHECKING:
    from caffe_port.cli.gflags import Flags
    from caffe_port.live.net import Net


def gpu_ids(flag: str) -> list[int]:
    """The GPUs that -gpu names: numbers with commas, or 'all'; -1, as DeepLab v1 has it, is none.

    Raises:
        UsageError: anything else.
    """
    if flag == "all":
        import torch

        return list(range(torch.cuda.device_count()))
    try:
        wanted = [int(part) for part in flag.split(",")] if flag else []
    except ValueError:
        raise UsageError(f"-gpu is '{flag}'; expected numbers with commas, or 'all'") from None
    return [] if wanted == [-1] else wanted


def use_device(flag: str) -> int | None:
    """Selects the GPU that -gpu names, else the CPU; each of several processes has its own GPU.

    Returns:
        The GPU's number, None for the CPU.

    Raises:
        UsageError: several GPUs, or a number that does not exist although there are GPUs.
    """
    import torch

    from caffe_port.cli.caffe_tools._program import own_gpu
    from caffe_port.live import mode
    from caffe_port.ranks import is_one_of_several

    wanted = gpu_ids(flag)
    if wanted and torch.cuda.is_available() and is_one_of_several():
        wanted = [own_gpu(wanted, torch.cuda.device_count())]
    if len(wanted) > 1:
        raise UsageError(f"-gpu {flag}: one process computes on one GPU; give one number")
    if wanted and not torch.cuda.is_available():
        message = f"-gpu {flag}: torch finds no GPU here; using the CPU."
        log(message, WARNING, "caffe.cpp:1")
        wanted = []
    if not wanted:
        mode.set_mode_cpu()
        return None
    mode.set_device(wanted[0])
    mode.set_mode_gpu()
    return wanted[0]


def log_device(gpu: int | None, command: str, dialect: str) -> None:
    """Logs the device of a command as Caffe does.

    Args:
        gpu: what ``use_device`` returned.
        command: 'TRAIN', 'TEST' or 'TIME', each of which has its own lines.
        dialect: of the net.
    """
    if gpu is None:
        log("Use CPU.", place=Place[f"CPU_{command}"].of(dialect))
        return
    import torch

    place, name = Place[f"GPU_{command}"].of(dialect), torch.cuda.get_device_name(gpu)
    if command == "TRAIN" and dialect != "deeplab1":
        log(f"Using GPUs {gpu}", place=place)
        log(f"GPU {gpu}: {name}", place=Place.GPU_NAME_TRAIN.of(dialect))
        return
    log(f"Use GPU with device ID {gpu}", place=place)
    if command == "TEST":
        log(f"GPU device name: {name}", place=Place.GPU_NAME_TEST.of(dialect))


def stages(flags: Flags) -> tuple[str, ...]:
    """The stages that -stage names."""
    return tuple(name for name in flags.stage.split(",") if name)


def allow(flags: Flags) -> None:
    """Applies the flags for own layer types, Python layers and unknown fields."""
    from caffe_port.live import mode
    from caffe_port.spec.plugins import import_own

    import_own([name for name in getattr(flags, "import").split(",") if name])
    mode.allow_python_layers(flags.allow_python_layers)
    mode.allow_unknown_fields(flags.allow_unknown_fields)


def build_net(flags: Flags, phase: str, command: str) -> Net:
    """The net of -model, on the device of -gpu; both are logged as Caffe logs them.

    Args:
        flags: of the command line.
        phase: of the net.
        command: 'TEST' or 'TIME'.
    Raises:
        UsageError: the phase is neither TRAIN nor TEST.
        CaffePortError: the net is not as expected.
    """
    from caffe_port.live.net import Net
    from caffe_port.proto import caffe_pb2
    from caffe_port.solver.net_log import log_net
    from caffe_port.solver.nets import expect_layers

    if phase not in ("TRAIN", "TEST"):
        raise UsageError(f"-phase is '{phase}'; expected TRAIN or TEST")
    allow(flags)
    gpu = use_device(flags.gpu)
    number = caffe_pb2.Phase.Value(phase)
    net = expect_layers(Net(flags.model, phase=number, level=flags.level, stages=stages(flags)))
    log_device(gpu, command, net._net.spec.dialect)
    log_net(net._net.spec)
    return net
