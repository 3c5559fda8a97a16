"""What Caffe's programs share: flags, logging, start."""

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

# A training on several GPUs: one process for each, which torchrun starts.


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


# What all programs share: flags, the log, errors as the last line.

GLOG = {
    "log_dir": Flag("", "Also write the log into this folder; GLOG_log_dir does the same."),
    "minloglevel": Flag(0, "Lines below this severity are left out: 0 info, 1 warning, 2 error."),
    "logtostderr": Flag(True, "Taken for upstream's sake; lines always go to standard error."),
    "alsologtostderr": Flag(True, "Taken for upstream's sake, as logtostderr."),
    "stderrthreshold": Flag(2, "Taken for upstream's sake, as logtostderr."),
    "logbufsecs": Flag(30, "Taken for upstream's sake; lines are written at once."),
    "v": Flag(0, "Taken for upstream's sake; there are no lines of other levels."),
    "help": Flag(False, "Show the flags and end."),
    "version": Flag(False, "Show the version and end."),
}
GPU = Flag("", "Compute on this GPU; without one here, a warning and the CPU.")
NET_FLAGS = {
    "allow_python_layers": Flag(
        False, "Let layers of type Python import and run the code they name."
    ),
    "allow_unknown_fields": Flag(
        False, "Only warn of fields of the prototxt that are not known; for nets of forks."
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
        body: takes the flags and the other arguments.
        known: its flags, besides those of the log.
        about: what it does and how it is called, for -help.
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
        words = described(error) if isinstance(error, OSError) else str(error)
        log(words, severity=FATAL, place=f"{program}.cpp:1")
        return 1
    except KeyboardInterrupt:
        log("Interrupted.", severity=ERROR, place=f"{program}.cpp:1")
        interrupt_reported("Interrupted.")
        return 130
    finally:
        close_files()
    return 0


def _logged(program: str, body: Body, flags: Flags, others: list[str]) -> None:
    """Calls the body, whose lines and warnings go where the flags say."""
    if flags.minloglevel:
        set_min_level(flags.minloglevel)
    folder = flags.log_dir or log_dir()
    # of several processes the first one writes the log
    if folder and os.environ.get("RANK", "0") == "0":
        try:
            open_file(folder, program)
        except OSError as error:  # as glog, which goes on without the file
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
    """Stands in for warnings.showwarning."""
    log(str(message), WARNING, place="net.cpp:1")


def expect(arguments: Sequence[str], least: int, most: int, about: str) -> None:
    """Refuses too few or too many arguments.

    Raises:
        UsageError: shows how the program is called.
    """
    if not least <= len(arguments) <= most:
        raise UsageError(f"{len(arguments)} arguments given\n{about}")
