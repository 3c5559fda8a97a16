"""Where the commands ``caffe-port`` and ``caffe`` begin and end, whatever happens between.

From the first line on, Ctrl-C ends them with one line, status 130 and a terminal as it was; a
watchdog ends them where files no longer answer.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130  # exit status: Ctrl-C as shells count it
_came: list[int] = []  # a Ctrl-C
_told: list[str] = []  # what was said of it


def caffe_port() -> NoReturn:
    """The program ``caffe-port``."""
    _end_at_once_from_now_on("caffe-port")
    from caffe_port.cli import main

    run("caffe-port", main.main, status=2)


def caffe() -> NoReturn:
    """The program ``caffe``."""
    _end_at_once_from_now_on("caffe")
    from caffe_port.cli.caffe import main

    # upstream's Ctrl-C asks a training to save and stop: only the second one ends it
    run("caffe", main, status=1, ends_on_first_interrupt="train" not in sys.argv[1:])


def run(
    program: str, main: Callable[[], Any], *, status: int, ends_on_first_interrupt: bool = True
) -> NoReturn:
    """Runs a program to its end and leaves.

    Args:
        program: its name.
        main: returns its exit status, or raises SystemExit.
        status: where its files give no answer any more.
        ends_on_first_interrupt: see ``watchdog.watched``.
    """
    _end_at_once_from_now_on(program)
    # the last thing before Python's own end, in which nothing could be said of a Ctrl-C
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from caffe_port.errors import UsageError
    from caffe_port.watchdog import name_of, watched

    code: Any = INTERRUPTED
    try:
        with watched(name_of(program), status, ends_on_first_interrupt=ends_on_first_interrupt):
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, _interrupt)
            sys.unraisablehook = _not_lost
            code = _code(main)
            _end_at_once_from_now_on(program)
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        code = status
    except BaseException:
        if not _came:
            raise
    if _came and code:
        _leave(program)
    sys.exit(code)


def told(words: str) -> None:
    """Remembers that a Ctrl-C was spoken of, so that it is not done twice.

    A command may say more than that it was interrupted, but what it says may be interrupted too.
    """
    _told.append(words)


def _code(main: Callable[[], Any]) -> Any:
    try:
        return main()
    except SystemExit as end:
        return end.code


def _end_at_once_from_now_on(program: str) -> None:
    """While there is nothing to tidy up, Ctrl-C ends the process at once."""

    def end(number: int, frame: FrameType | None) -> None:
        _leave(program)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def _not_lost(lost: UnraisableHookArgs) -> None:
    """A Ctrl-C that fell where nothing can be raised comes again."""
    if lost.exc_type is KeyboardInterrupt:
        import threading

        # a moment later, or it would fall into this function and be lost again
        again = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _leave(program: str) -> NoReturn:
    """Ends this process now: threads that wait for ever, or a Ctrl-C more, change nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        # a Ctrl-C may have come while one of them was being written
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    with contextlib.suppress(OSError):
        if not _told:
            os.write(2, f"\n{program}: interrupted\n".encode())
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")  # the cursor, where a bar's end was interrupted
    os._exit(INTERRUPTED)
