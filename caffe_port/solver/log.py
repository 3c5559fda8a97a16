"""Lines in glog's format, which parsers of Caffe's logs read.

Source: glog logging.cc, LogMessage::Init and LogFileObject.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from caffe_port.printing import escaped, printable

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
