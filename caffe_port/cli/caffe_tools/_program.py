"""Flags, logging, device and net of Caffe's programs, and one process per GPU."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from caffe_port.cli.gflags import Flag, Flags, parse, usage
from caffe_port.errors import CaffePortError, UsageError, described, speaking
from caffe_port.solver.log import (
    ERROR,
    FATAL,
    WARNING,
    Place,
    close_files,
    log,
    log_dir,
    open_file,
    set_min_level,
)
from caffe_port.start import interrupt_reported

if TYPE_CHECKING:
    from caffe_port.live.net import Net


def command(processes: int, arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``caffe`` with these arguments in several processes."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", "-m", "caffe_port.cli.caffe", *arguments,
    ]  # fmt: skip


def run_on(gpus: Sequence[int]) -> NoReturn:
    """Replaces this process by torchrun with one process per GPU and the same command line."""
    log(
        f"Training on {len(gpus)} GPUs. They share each batch of batch_size items; in Caffe each "
        "GPU has its own batch: multiply batch_size by the number of GPUs for that.",
        place="caffe.cpp:1",
    )
    words = command(len(gpus), sys.argv[1:])
    sys.stderr.flush()
    os.execv(words[0], words)


def own_gpu(gpus: Sequence[int], count: int) -> int:
    """The GPU of this process, one of several that torchrun started.

    Args:
        gpus: the named GPUs; a single one means all GPUs of the machine.
        count: number of GPUs of the machine.
    Raises:
        UsageError: there are fewer GPUs than processes.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    among = list(gpus) if len(gpus) > 1 else list(range(count))
    if local >= len(among):
        raise UsageError(
            f"process {local} on this machine has no GPU of its own; there are {len(among)}: start "
            "as many processes"
        )
    return among[local]


GLOG = {
    "log_dir": Flag("", "Also write the log into this folder; GLOG_log_dir does the same."),
    "minloglevel": Flag(0, "Omit lines below this severity: 0 info, 1 warning, 2 error."),
    "logtostderr": Flag(True, "Accepted for compatibility; ignored: lines always go to stderr."),
    "alsologtostderr": Flag(True, "Accepted for compatibility; ignored."),
    "stderrthreshold": Flag(2, "Accepted for compatibility; ignored."),
    "logbufsecs": Flag(30, "Accepted for compatibility; ignored: lines are written immediately."),
    "v": Flag(0, "Accepted for compatibility; ignored."),
    "help": Flag(False, "Show the flags and exit."),
    "version": Flag(False, "Show the version and exit."),
}
GPU = Flag("", "GPU number; without a GPU, warns and uses the CPU.")
NET_FLAGS = {
    "allow_python_layers": Flag(
        False, "Allow layers of type Python to import and run the code they name."
    ),
    "allow_unknown_fields": Flag(
        False, "Only warn of unknown fields of the prototxt; for nets of forks."
    ),
    "import": Flag(
        "",
        "Import this first: a Python file or module with layer types of your own; several are "
        "separated by ','.",
        joined=True,
    ),
}

Body = Callable[[Flags, list[str]], None]


def run(
    program: str,
    body: Body,
    known: Mapping[str, Flag],
    about: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs a program.

    Args:
        program: its name.
        body: called with the flags and the other arguments.
        known: its flags, in addition to those of the log.
        about: its purpose and usage, for -help.
        arguments: of the command line; sys.argv's when absent.
    Returns:
        The exit status: 0, 1 after an error, 130 after Ctrl-C.
    """
    everything = {**GLOG, **known}
    try:
        flags, others = parse(sys.argv[1:] if arguments is None else arguments, everything)
        if flags.help:
            print(f"{program}: {about}\n\n  Flags:\n{usage(everything)}")
        elif flags.version:
            from caffe_port import __version__

            print(f"{program} version {__version__} (caffe_port)")
        else:
            _logged(program, body, flags, others)
    except (CaffePortError, OSError) as error:
        message = described(error) if isinstance(error, OSError) else str(error)
        log(message, severity=FATAL, place=f"{program}.cpp:1")
        return 1
    except KeyboardInterrupt:
        log("Interrupted.", severity=ERROR, place=f"{program}.cpp:1")
        interrupt_reported("Interrupted.")
        return 130
    finally:
        close_files()
    return 0


def _logged(program: str, body: Body, flags: Flags, others: list[str]) -> None:
    """Calls the body, with its log and warnings as the flags say."""
    if flags.minloglevel:
        set_min_level(flags.minloglevel)
    folder = flags.log_dir or log_dir()
    # the first of several processes writes the log
    if folder and os.environ.get("RANK", "0") == "0":
        try:
            open_file(folder, program)
        except OSError as error:  # like glog, continue without the file
            log(f"Could not create a log file in '{folder}': {error.strerror}", severity=ERROR)
    with warnings.catch_warnings(), speaking("caffe"):
        warnings.showwarning = _log_warning
        body(flags, others)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Logs a warning; replaces warnings.showwarning."""
    log(str(message), WARNING, place="net.cpp:1")


def expect(arguments: Sequence[str], least: int, most: int, about: str) -> None:
    """Refuses too few or too many arguments.

    Raises:
        UsageError: shows how the program is called.
    """
    if not least <= len(arguments) <= most:
        raise UsageError(f"{len(arguments)} arguments given\n{about}")


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
