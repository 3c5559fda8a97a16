"""How tests wait: for an event, however slow or busy the machine is.

``LIMIT`` only ends a test that hangs. It is far above what any test needs on a slow machine;
``CAFFE_PORT_TEST_LIMIT`` (seconds) changes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

LIMIT = float(os.environ.get("CAFFE_PORT_TEST_LIMIT", "3600"))  # seconds
_REFERENCE = 0.0025  # processor seconds of the loop in slowness() where limits were set


class Process(Protocol):
    """One that subprocess or tests.preloaded started."""

    returncode: int | None

    def poll(self) -> int | None: ...

    def communicate(self) -> tuple[Any, Any]: ...


def wait_until(happened: Callable[[], object], process: Process | None = None) -> None:
    """Waits for something, which may need a process that must not end before.

    Raises:
        AssertionError: the process has ended, or nothing happened within ``LIMIT``.
    """
    end = time.monotonic() + LIMIT
    while not happened():
        if process is not None and process.poll() is not None and not happened():
            said = process.communicate()[1]
            raise AssertionError(f"it ended with {process.returncode}: {(said or '')[-2000:]}")
        assert time.monotonic() < end, f"nothing happened in {LIMIT:.0f} s"
        time.sleep(0.005)


@cache
def slowness() -> float:
    """How many times longer this machine computes than the one where limits were set; at least 1.

    Limits of processor time are multiplied by it.
    """
    return max(1.0, min(_measured() for _ in range(5)) / _REFERENCE)


def _measured() -> float:
    start = time.process_time()
    sum(number * number % 7 for number in range(50_000))
    return time.process_time() - start
