"""Caffe's log: lines in glog's format, and the lines of a solver.

Source: glog logging.cc, LogMessage::Init and LogFileObject; BVLC/caffe solver.cpp, sgd_solver.cpp.
"""

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
from enum import Enum
from pathlib import Path
from typing import TextIO

from caffe_port.errors import escaped, printable
from caffe_port.live import mode
from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text

_SEVERITIES = "IWEF"
INFO, WARNING, ERROR, FATAL = range(4)
_level: list[int] = []  # what init_log set, over the environment
_files: list[TextIO] = []  # where lines are written besides standard error
_before: list[Callable[[], None]] = []  # called before a line is written


def set_min_level(level: int) -> None:
    """Omits lines below a severity: 0 info, 1 warning, 2 error."""
    _level[:] = [level]


def min_level() -> int:
    """The level set, else GLOG_minloglevel, else 0."""
    if _level:
        return _level[0]
    given = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112 - glog's own name
    return int(given) if given.isdigit() else 0


def log_dir() -> str:
    """The folder that GLOG_log_dir names, or ''."""
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
    """Closes the files of ``open_file``."""
    while _files:
        with contextlib.suppress(OSError):  # a full disk was reported before
            _files.pop().close()


@contextlib.contextmanager
def calling_before(function: Callable[[], None]) -> Iterator[None]:
    """Calls a function before each line on standard error, to clear the progress line."""
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
        except OSError as error:  # glog, too, continues without the file
            _files.remove(stream)
            log(f"The log file cannot be written any more: {error.strerror}", ERROR)


_COLUMNS = {"bvlc": 0, "deeplab1": 1, "deeplab2": 2}


class Place(Enum):
    """A kind of line, with its place in BVLC's Caffe 1.0, DeepLab v1 and DeepLab v2.

    Parsers of logs look for the file and the line. DeepLab v1's solvers are all in solver.cpp.

        log("Optimization Done.", place=Place.OPTIMIZATION_DONE.of("deeplab2"))  # solver.cpp:323

    Source: solver.cpp, sgd_solver.cpp, net.cpp and caffe.cpp of the three.
    """

    INITIALIZING_SOLVER = ("solver.cpp:44", "solver.cpp:32", "solver.cpp:48")
    TRAIN_NET_PARAM = ("solver.cpp:73", "solver.cpp:55", "solver.cpp:77")
    TRAIN_NET = ("solver.cpp:77", "solver.cpp:58", "solver.cpp:81")
    NET_PARAM = ("solver.cpp:82", "solver.cpp:63", "solver.cpp:86")
    NET = ("solver.cpp:87", "solver.cpp:67", "solver.cpp:91")
    TEST_NET = ("solver.cpp:172", "solver.cpp:151", "solver.cpp:181")
    SCAFFOLDING_DONE = ("solver.cpp:56", "solver.cpp:41", "solver.cpp:60")
    LOSS = ("solver.cpp:218", "solver.cpp:209", "solver.cpp:229")
    TRAIN_OUTPUT = ("solver.cpp:237", "solver.cpp:224", "solver.cpp:245")
    SOLVING = ("solver.cpp:272", "solver.cpp:160", "solver.cpp:280")
    POLICY = ("solver.cpp:273", "solver.cpp:161", "solver.cpp:281")
    RESTORING = ("solver.cpp:279", "solver.cpp:167", "solver.cpp:287")
    STOPPED_EARLY = ("solver.cpp:294", "", "solver.cpp:302")
    FINAL_LOSS = ("solver.cpp:310", "solver.cpp:246", "solver.cpp:318")
    OPTIMIZATION_DONE = ("solver.cpp:315", "solver.cpp:251", "solver.cpp:323")
    TESTING = ("solver.cpp:330", "solver.cpp:264", "solver.cpp:338")
    TEST_INTERRUPTED = ("solver.cpp:379", "", "solver.cpp:388")
    TEST_LOSS = ("solver.cpp:384", "solver.cpp:303", "solver.cpp:393")
    TEST_OUTPUT = ("solver.cpp:397", "solver.cpp:316", "solver.cpp:406")
    SNAPSHOT = ("solver.cpp:447", "solver.cpp:336", "solver.cpp:456")
    SNAPSHOT_HDF5 = ("solver.cpp:457", "", "solver.cpp:466")

    MULTISTEP = ("sgd_solver.cpp:46", "solver.cpp:398", "sgd_solver.cpp:46")
    CLIPPING = ("sgd_solver.cpp:92", "", "sgd_solver.cpp:92")
    RATE = ("sgd_solver.cpp:105", "solver.cpp:447", "sgd_solver.cpp:106")
    STATE = ("sgd_solver.cpp:273", "solver.cpp:344", "sgd_solver.cpp:273")
    STATE_HDF5 = ("sgd_solver.cpp:283", "", "sgd_solver.cpp:283")
    HISTORY = ("sgd_solver.cpp:318", "solver.cpp:562", "sgd_solver.cpp:318")

    INITIALIZING_NET = ("net.cpp:51", "net.cpp:39", "net.cpp:49")
    CREATING_LAYER = ("net.cpp:84", "net.cpp:67", "net.cpp:106")
    SETTING_UP = ("net.cpp:122", "net.cpp:96", "net.cpp:150")
    TOP_SHAPE = ("net.cpp:129", "net.cpp:103", "net.cpp:157")
    LOSS_WEIGHT = ("net.cpp:132", "net.cpp:109", "net.cpp:160")
    MEMORY = ("net.cpp:137", "net.cpp:113", "net.cpp:165")
    BACKWARD = ("net.cpp:198", "net.cpp:170", "net.cpp:226")
    NO_BACKWARD = ("net.cpp:200", "net.cpp:172", "net.cpp:228")
    OUTPUT = ("net.cpp:242", "net.cpp:208", "net.cpp:270")
    INITIALIZED = ("net.cpp:255", "net.cpp:219", "net.cpp:283")
    IN_PLACE = ("net.cpp:367", "net.cpp:345", "net.cpp:397")
    TOP = ("net.cpp:380", "net.cpp:356", "net.cpp:411")
    BOTTOM = ("net.cpp:406", "net.cpp:394", "net.cpp:454")
    IGNORING_LAYER = ("net.cpp:744", "net.cpp:703", "net.cpp:816")
    DEBUG_TOP = ("net.cpp:591", "net.cpp:585", "net.cpp:663")
    DEBUG_PARAM = ("net.cpp:603", "", "net.cpp:675")
    DEBUG_BOTTOM = ("net.cpp:619", "net.cpp:599", "net.cpp:691")
    DEBUG_PARAM_DIFF = ("net.cpp:630", "net.cpp:608", "net.cpp:702")
    DEBUG_UPDATE = ("net.cpp:647", "net.cpp:623", "net.cpp:719")
    DEBUG_UPDATE_SHARED = ("net.cpp:655", "net.cpp:629", "net.cpp:727")
    DEBUG_NORMS = ("net.cpp:719", "", "net.cpp:791")

    CPU_TRAIN = ("caffe.cpp:211", "caffe.cpp:106", "caffe.cpp:178")
    CPU_TEST = ("caffe.cpp:284", "caffe.cpp:141", "caffe.cpp:246")
    CPU_TIME = ("caffe.cpp:352", "caffe.cpp:207", "caffe.cpp:313")
    GPU_TRAIN = ("caffe.cpp:218", "caffe.cpp:102", "caffe.cpp:185")
    GPU_TEST = ("caffe.cpp:275", "caffe.cpp:137", "caffe.cpp:237")
    GPU_TIME = ("caffe.cpp:348", "caffe.cpp:203", "caffe.cpp:309")
    GPU_NAME_TRAIN = ("caffe.cpp:223", "", "caffe.cpp:190")
    GPU_NAME_TEST = ("caffe.cpp:279", "", "caffe.cpp:241")
    RESUMING = ("caffe.cpp:242", "caffe.cpp:115", "caffe.cpp:209")
    FINETUNING = ("caffe.cpp:155", "caffe.cpp:118", "caffe.cpp:129")
    STARTING = ("caffe.cpp:248", "caffe.cpp:110", "caffe.cpp:219")
    TRAINED = ("caffe.cpp:259", "caffe.cpp:124", "caffe.cpp:222")
    RUNNING = ("caffe.cpp:290", "caffe.cpp:148", "caffe.cpp:252")
    BATCH = ("caffe.cpp:313", "caffe.cpp:172", "caffe.cpp:276")
    TESTED_LOSS = ("caffe.cpp:318", "caffe.cpp:177", "caffe.cpp:281")
    TESTED_OUTPUT = ("caffe.cpp:330", "caffe.cpp:189", "caffe.cpp:293")
    PERFORMING_FORWARD = ("caffe.cpp:360", "caffe.cpp:216", "caffe.cpp:321")
    INITIAL_LOSS = ("caffe.cpp:365", "caffe.cpp:221", "caffe.cpp:326")
    PERFORMING_BACKWARD = ("caffe.cpp:366", "caffe.cpp:222", "caffe.cpp:327")
    BENCHMARK_BEGINS = ("caffe.cpp:374", "caffe.cpp:230", "caffe.cpp:335")
    TIMING = ("caffe.cpp:375", "caffe.cpp:231", "caffe.cpp:336")
    TIMED_ITERATION = ("caffe.cpp:403", "caffe.cpp:262", "caffe.cpp:364")
    TIME_PER_LAYER = ("caffe.cpp:406", "caffe.cpp:265", "caffe.cpp:367")
    LAYER_FORWARD = ("caffe.cpp:409", "caffe.cpp:268", "caffe.cpp:370")
    LAYER_BACKWARD = ("caffe.cpp:412", "caffe.cpp:271", "caffe.cpp:373")
    AVERAGE_FORWARD = ("caffe.cpp:417", "caffe.cpp:276", "caffe.cpp:378")
    AVERAGE_BACKWARD = ("caffe.cpp:419", "caffe.cpp:278", "caffe.cpp:380")
    AVERAGE_BOTH = ("caffe.cpp:421", "caffe.cpp:280", "caffe.cpp:382")
    TOTAL_TIME = ("caffe.cpp:423", "caffe.cpp:282", "caffe.cpp:384")
    BENCHMARK_ENDS = ("caffe.cpp:424", "caffe.cpp:283", "caffe.cpp:385")

    def of(self, dialect: str) -> str:
        """`file:line`; BVLC's where the dialect has no such line."""
        return self.value[_COLUMNS.get(dialect, 0)] or self.value[0]


_TRAIN_NETS = {
    "net": Place.NET,
    "net_param": Place.NET_PARAM,
    "train_net": Place.TRAIN_NET,
    "train_net_param": Place.TRAIN_NET_PARAM,
}


def is_root() -> bool:
    """Whether this process's solver is the first of several, the one that logs, tests and saves."""
    return mode.solver_rank() == 0


class SolverLog:
    """Writes the lines of the root solver.

    Args:
        dialect: whose Caffe the train net was written for.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._lap = (time.perf_counter(), 0)  # time and iteration of the last line of the loss

    def line(self, place: Place, message: str, body: str | None = None) -> None:
        """Writes a line, and a text below it."""
        if is_root():
            log(message, place=place.of(self.dialect), body=body)

    def initializing(self, param: caffe_pb2.SolverParameter) -> None:
        """Logs the parameters that a solver is made from."""
        message = "Initializing solver from parameters: "
        self.line(Place.INITIALIZING_SOLVER, message, body=print_text(param))

    def creating_train_net(self, field: str, source: object) -> None:
        """Logs which field of the solver names the train net."""
        if field.endswith("_param"):
            self.line(_TRAIN_NETS[field], f"Creating training net specified in {field}.")
        else:
            message = f"Creating training net from {field} file: {source}"
            self.line(_TRAIN_NETS[field], message)

    def start_lap(self, iteration: int) -> None:
        """Starts to measure the speed that ``loss`` logs."""
        self._lap = (time.perf_counter(), iteration)

    def loss(self, iteration: int, loss: float, display: int) -> None:
        """Logs the loss; in BVLC's dialect also the speed since the last time."""
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
        """Logs a net's outputs and what they add to the loss.

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
        """Logs that the diffs were scaled down."""
        self.line(
            Place.CLIPPING,
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {most:g}) "
            f"by scale factor {factor:g}",
        )

    def snapshot(self, path: str, hdf5: bool) -> None:
        """Logs the file of the weights."""
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
