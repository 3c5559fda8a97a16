"""Caffe's log lines, as solver.cpp writes them."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from caffe_port.errors import escaped, printable
from caffe_port.live import mode
from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.places import Place

# Lines in glog's format, which parsers of Caffe's logs read.
#
# Source: glog logging.cc, LogMessage::Init and LogFileObject.

_SEVERITIES = "IWEF"
INFO, WARNING, ERROR, FATAL = range(4)
_level: list[int] = []  # what init_log set, over the environment
_files: list[TextIO] = []  # where lines go besides standard error
_before: list[Callable[[], None]] = []  # called before a line is written


def set_min_level(level: int) -> None:
    """Leaves out lines below a severity: 0 info, 1 warning, 2 error."""
    _level[:] = [level]


def min_level() -> int:
    """The level set, else GLOG_minloglevel, else 0."""
    if _level:
        return _level[0]
    given = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112 - glog's own name
    return int(given) if given.isdigit() else 0


def log_dir() -> str:
    """The folder that GLOG_log_dir asks for, or nothing."""
    return os.environ.get("GLOG_log_dir", "")  # noqa: SIM112 - glog's own name


def open_file(folder: str | os.PathLike[str], program: str) -> Path:
    """Writes all lines from now on also to a new file, to which the link `<program>.INFO` leads.

    Returns:
        `<program>.<host>.<user>.log.INFO.<date>-<time>.<process>` in the folder.
    Raises:
        OSError: the file cannot be made.
    """
    now, host = datetime.datetime.now(), platform.node()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a process without a name of its own, as in containers
        user = "invalid-user"
    name = f"{program}.{host}.{user}.log.INFO.{now:%Y%m%d-%H%M%S}.{os.getpid()}"
    path = Path(folder) / name
    stream = path.open("a", buffering=1)
    stream.write(
        f"Log file created at: {now:%Y/%m/%d %H:%M:%S}\nRunning on machine: {host}\n"
        "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n"
    )
    _files.append(stream)
    link = Path(folder) / f"{program}.INFO"
    with contextlib.suppress(OSError):  # not every file system has links
        link.unlink(missing_ok=True)
        link.symlink_to(name)
    return path


def close_files() -> None:
    """Ends what ``open_file`` began."""
    while _files:
        with contextlib.suppress(OSError):  # a full disk was told of when it was met
            _files.pop().close()


@contextlib.contextmanager
def calling_before(function: Callable[[], None]) -> Iterator[None]:
    """Calls a function before each line on standard error, to clear what stands there."""
    _before.append(function)
    try:
        yield
    finally:
        _before.remove(function)


def log(
    message: str, severity: int = 0, place: str = "solver.cpp:1", *, body: str | None = None
) -> None:
    """Writes one line to standard error.

    Args:
        message: what it says.
        body: text for the lines below it.
        severity: 0 info, 1 warning, 2 error, 3 fatal.
        place: the file and line that parsers expect between time and message.
    """
    if severity < min_level():
        return
    now = datetime.datetime.now()
    stamp = f"{_SEVERITIES[severity]}{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d}"
    for function in _before:
        function()
    line = f"{stamp} {place}] {printable(message)}"
    line += "" if body is None else f"\n{escaped(body).rstrip()}"
    print(line, file=sys.stderr)
    for stream in list(_files):
        try:
            print(line, file=stream)
        except OSError as error:  # as glog, which goes on without the file
            _files.remove(stream)
            log(f"The log file cannot be written any more: {error.strerror}", ERROR)


# The lines that a solver logs, with the words and places of its dialect.
#
# Source: BVLC/caffe solver.cpp, sgd_solver.cpp; the same files of DeepLab v1 and v2.

_TRAIN_NETS = {
    "net": Place.NET,
    "net_param": Place.NET_PARAM,
    "train_net": Place.TRAIN_NET,
    "train_net_param": Place.TRAIN_NET_PARAM,
}


def is_root() -> bool:
    """Whether this process's solver is the first of several, which alone logs, tests and saves."""
    return mode.solver_rank() == 0


class SolverLog:
    """Writes a solver's lines, the root solver's only.

    Args:
        dialect: whose Caffe the train net was written for.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._lap = (time.perf_counter(), 0)  # when the loss was last logged, at which iteration

    def line(self, place: Place, message: str, body: str | None = None) -> None:
        """Writes a line, and a text below it."""
        if is_root():
            log(message, place=place.of(self.dialect), body=body)

    def initializing(self, param: caffe_pb2.SolverParameter) -> None:
        """Says with which parameters a solver is made."""
        message = "Initializing solver from parameters: "
        self.line(Place.INITIALIZING_SOLVER, message, body=print_text(param))

    def creating_train_net(self, field: str, source: object) -> None:
        """Says which field of the solver names the train net."""
        if field.endswith("_param"):
            self.line(_TRAIN_NETS[field], f"Creating training net specified in {field}.")
        else:
            message = f"Creating training net from {field} file: {source}"
            self.line(_TRAIN_NETS[field], message)

    def start_lap(self, iteration: int) -> None:
        """Starts to measure the speed that ``loss`` says."""
        self._lap = (time.perf_counter(), iteration)

    def loss(self, iteration: int, loss: float, display: int) -> None:
        """Says the loss; BVLC also the speed since the last time, which the older forks do not."""
        speed = ""
        if not self.dialect.startswith("deeplab"):
            then, last = self._lap
            self.start_lap(iteration)
            seconds = self._lap[0] - then
            rate = (iteration - last) / (seconds or 1)
            speed = f" ({rate:g} iter/s, {seconds:g}s/{display} iters)"
        self.line(Place.LOSS, f"Iteration {iteration}{speed}, loss = {loss:g}")

    def outputs(
        self, what: str, weights: Mapping[str, float], values: Mapping[tuple[str, int], float]
    ) -> None:
        """Says a net's outputs and what they add to the loss.

        Args:
            what: 'Train' or 'Test'.
            weights: blob name -> loss weight.
            values: (blob name, element) -> value.
        """
        place = Place.TRAIN_OUTPUT if what == "Train" else Place.TEST_OUTPUT
        for i, ((name, _), value) in enumerate(values.items()):
            weight = weights[name]
            part = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            self.line(place, f"    {what} net output #{i}: {name} = {value:g}{part}")

    def clipping(self, norm: float, most: float, factor: float) -> None:
        """Says that the diffs were scaled down."""
        self.line(
            Place.CLIPPING,
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {most:g}) "
            f"by scale factor {factor:g}",
        )

    def snapshot(self, path: str, hdf5: bool) -> None:
        """Says where the weights go."""
        place = Place.SNAPSHOT_HDF5 if hdf5 else Place.SNAPSHOT
        self.line(place, f"Snapshotting to {self._kind(hdf5)}{path}")

    def state(self, path: str, hdf5: bool) -> None:
        """Says where the solver's state is."""
        place = Place.STATE_HDF5 if hdf5 else Place.STATE
        self.line(place, f"Snapshotting solver state to {self._kind(hdf5)}{path}")

    def _kind(self, hdf5: bool) -> str:
        if hdf5:
            return "HDF5 file "
        return "" if self.dialect == "deeplab1" else "binary proto file "
