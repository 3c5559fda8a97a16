"""Delays Ctrl-C during calls of libraries that cannot be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Delays Ctrl-C until the end of the block.

    For calls of C++ that call back into Python: an exception raised there may end the process
    immediately, without any cleanup.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signals: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if signals:
            signal.raise_signal(signal.SIGINT)
