"""Flags, logging and start of Caffe's programs, and one process per GPU."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TextIO

from caffe_port.cli.gflags import Flag, Flags, parse, usage
from caffe_port.errors import CaffePortError, UsageError, speaking
from caffe_port.files import described
from caffe_port.solver.log import (
    ERROR,
    FATAL,
    WARNING,
    close_files,
    log,
    log_dir,
    open_file,
    set_min_level,
)
from caffe_port.start import interrupt_reported


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
