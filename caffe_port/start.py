"""Start and end of the commands ``caffe-port`` and ``caffe``.

From the first line on, Ctrl-C ends them with one line, status 130 and a restored terminal; a
watchdog ends them when files no longer answer.
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

INTERRUPTED = 130  # exit status that shells use for Ctrl-C
_interrupts: list[int] = []  # each Ctrl-C so far
_reports: list[str] = []  # messages about it that were printed


def caffe_port() -> NoReturn:
    """The program ``caffe-port``."""
    _exit_on_interrupt("caffe-port")
    from caffe_port.cli import main

    run("caffe-port", main.main, status=2)


def caffe() -> NoReturn:
    """The program ``caffe``."""
    _exit_on_interrupt("caffe")
    from caffe_port.cli.caffe import main

    # Caffe's first Ctrl-C makes a training save and stop; only the second ends it
    run("caffe", main, status=1, ends_on_first_interrupt="train" not in sys.argv[1:])


def run(
    program: str, main: Callable[[], Any], *, status: int, ends_on_first_interrupt: bool = True
) -> NoReturn:
    """Runs a program and exits with its status.

    Args:
        program: its name.
        main: returns its exit status, or raises SystemExit.
        status: exit status if its files no longer answer.
        ends_on_first_interrupt: see ``watchdog.watched``.
    """
    _exit_on_interrupt(program)
    # last, before Python shuts down, when a Ctrl-C can no longer be reported
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from caffe_port.errors import UsageError
    from caffe_port.watchdog import name_of, watched

    code: Any = INTERRUPTED
    try:
        with watched(name_of(program), status, ends_on_first_interrupt=ends_on_first_interrupt):
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, _interrupt)
            sys.unraisablehook = _resend_interrupt
            code = _exit_code(main)
            _exit_on_interrupt(program)
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        code = status
    except BaseException:
        if not _interrupts:
            raise
    if _interrupts and code:
        _exit_interrupted(program)
    sys.exit(code)


def interrupt_reported(message: str) -> None:
    """Records that a command printed its own message about a Ctrl-C: no other follows."""
    _reports.append(message)


def _exit_code(main: Callable[[], Any]) -> Any:
    try:
        return main()
    except SystemExit as end:
        return end.code


def _exit_on_interrupt(program: str) -> None:
    """Makes Ctrl-C end the process immediately, while there is nothing to clean up."""

    def end(number: int, frame: FrameType | None) -> None:
        _exit_interrupted(program)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def _resend_interrupt(lost: UnraisableHookArgs) -> None:
    """Sends a Ctrl-C again that came where Python cannot raise it."""
    if lost.exc_type is KeyboardInterrupt:
        import threading

        # a little later, or it would come during this function and be lost again
        again = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _exit_interrupted(program: str) -> NoReturn:
    """Ends this process now, whatever its threads wait for; another Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        # the Ctrl-C may have interrupted a write
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    with contextlib.suppress(OSError):
        if not _reports:
            os.write(2, f"\n{program}: interrupted\n".encode())
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")  # shows the cursor, if a progress bar was interrupted
    os._exit(INTERRUPTED)
