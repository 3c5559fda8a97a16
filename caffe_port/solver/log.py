"""Lines in glog's format, which parsers of Caffe's logs read.

Source: glog logging.cc, LogMessage::Init.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading

_SEVERITIES = "IWEF"
_level: list[int] = []  # what init_log set, over the environment


def set_min_level(level: int) -> None:
    """Leaves out lines below a severity: 0 info, 1 warning, 2 error."""
    _level[:] = [level]


def min_level() -> int:
    """The level set, else GLOG_minloglevel, else 0."""
    if _level:
        return _level[0]
    given = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112 - glog's own name
    return int(given) if given.isdigit() else 0


def log(message: str, severity: int = 0, place: str = "solver.cpp:1") -> None:
    """Writes one line to standard error.

    Args:
        message: what it says.
        severity: 0 info, 1 warning, 2 error.
        place: the file and line that parsers expect between time and message.
    """
    if severity < min_level():
        return
    now = datetime.datetime.now()
    stamp = f"{_SEVERITIES[severity]}{now:%m%d %H:%M:%S.%f} {threading.get_native_id():5d}"
    print(f"{stamp} {place}] {message}", file=sys.stderr)
