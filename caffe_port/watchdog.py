"""The watchdog: ends a command whose files no longer answer, as on a network that stalls.

It is a small process of its own, because a command that waits inside a system call can neither
print nor handle Ctrl-C. It reads the notes of ``stalls`` and, where /proc exists, the state of each
thread: one that computes, or receives bytes however slowly, does not count as stalled. Commands
have a watchdog; a program that imports this package has none.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from caffe_port import stalls
from caffe_port.errors import UsageError

VARIABLE = "CAFFE_PORT_PATIENCE"
PATIENCE = 300.0  # seconds
_REPORT_AFTER, _GRACE, _TICK, _END = 15.0, 5.0, 0.5, 2.0  # seconds
_INTERRUPTED = 130
_CANNOT_END = (
    "killed, but the system keeps it until its file answers or is unmounted by force (umount -f)"
)
_UNKNOWN = "a file or folder"  # what a thread without a note waits for
_PROC = Path("/proc")
# kernel functions in which Linux waits, killably, for a file server: FUSE, NFS, SMB, 9P, Ceph
_SERVERS = ("request_wait", "fuse", "rpc", "nfs", "wait_for_response", "cifs", "smb", "p9", "ceph")

_lifelines: list[int] = []  # of this process, while it is watched


def patience() -> float:
    """Seconds without an answer after which a command is ended; 0 for never.

    Raises:
        UsageError: the environment variable is not such a number.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text or PATIENCE)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{VARIABLE} is '{text}'; expected seconds, or 0 to wait without limit")
    return seconds


@contextlib.contextmanager
def watched(name: str, status: int, *, ends_on_first_interrupt: bool = True) -> Iterator[None]:
    """Watches this process during the block, if the system can fork.

    Args:
        name: of the command, for messages on stderr.
        status: its exit status when it is ended.
        ends_on_first_interrupt: whether the first Ctrl-C ends it during a stall, else the second.
    Raises:
        UsageError: see ``patience``.
    """
    limit = patience()
    if not hasattr(os, "fork") or stalls.is_watched():
        yield
        return
    board = stalls.Board()
    alive, lifeline = os.pipe()  # closes with this process; carries its signals
    ending, verdict = os.pipe()
    command = os.getpid()
    # a Ctrl-C now must not unwind the child's copy of this stack
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    watchdog = os.fork()
    if watchdog == 0:
        os.close(lifeline)
        os.close(ending)
        rule = _Rule(limit, status, 1 if ends_on_first_interrupt else 2)
        _watch(_Watch(name, command, board, rule), alive, verdict)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.close(alive)
    os.close(verdict)
    os.set_blocking(lifeline, False)
    before = signal.set_wakeup_fd(lifeline, warn_on_full_buffer=False)
    _lifelines.append(lifeline)
    threading.Thread(target=_exit_on_request, args=(name, ending), daemon=True).start()
    stalls.note_on(board)
    try:
        yield
    finally:
        stalls.note_on(None)
        signal.set_wakeup_fd(before)
        _lifelines.remove(lifeline)
        os.close(lifeline)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(watchdog, 0)


def _not_in_child() -> None:
    """Ends the watch in a forked child, whose copy of the pipe must not outlive the parent."""
    stalls.note_on(None)
    while _lifelines:
        signal.set_wakeup_fd(-1)
        os.close(_lifelines.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_not_in_child)


def _exit_on_request(name: str, ending: int) -> None:
    if status := os.read(ending, 1):
        os._exit(status[0])
    if stalls.is_watched():  # the watchdog was killed, or failed
        _write(f"{name}: its watchdog has ended; files that do not answer will not be detected")


@dataclass(frozen=True)
class _Rule:
    """When a command is ended.

    Args:
        patience: seconds without an answer, 0 for never.
        status: its exit status then.
        interrupts: number of Ctrl-C that end it while it gets no answer.
    """

    patience: float
    status: int
    interrupts: int


@dataclass
class _Watch:
    """The state of the watchdog.

    Args:
        name: of the command.
        command: its process.
        board: the notes of its waits.
        rule: when it is ended.
    """

    name: str
    command: int
    board: stalls.Board
    rule: _Rule
    _stuck: dict[tuple[int, float, str], _Stuck] = field(default_factory=dict)
    _reported: dict[str, float] = field(default_factory=dict)
    _interrupted: float | None = None

    def tick(self, seconds: float, interrupts: int) -> int | None:
        """Checks once; returns the exit status if the command must end.

        Args:
            seconds: since the previous check, without time in which this process was suspended.
            interrupts: number of Ctrl-C so far.
        """
        longest = self._longest_wait(seconds)
        if interrupts and self._interrupted is None:
            self._interrupted = 0.0
        if self._interrupted is not None:
            self._interrupted += seconds
        if longest is None:
            self._report_stalls({})
            return None
        path, lasted = longest
        self._report_stalls({path: lasted})
        if self._interrupted is not None and interrupts >= self.rule.interrupts:
            grace = 1.0 if interrupts > 1 else _GRACE
            if min(lasted, self._interrupted) >= grace:
                self.say(f"interrupted; {path} gave no answer for {lasted:.0f} s")
                return _INTERRUPTED
        if self.rule.patience and lasted >= self.rule.patience:
            self.say(
                f"{path} gave no answer for {lasted:.0f} s: given up. Completed results are kept; "
                f"run the same command again to resume ({VARIABLE}=SECONDS waits longer, 0 without "
                "limit)"
            )
            return self.rule.status
        return None

    def _longest_wait(self, seconds: float) -> tuple[str, float] | None:
        """The file with the longest current wait, and its seconds."""
        signs = _signs(self.command)
        now: dict[tuple[int, float, str], str] = {}
        for note in self.board.notes():
            now[note.thread, note.since, f"'{note.path}'"] = signs.get(note.thread, "")
        noted = {thread for thread, _, _ in now}
        for thread, sign in signs.items():
            if thread not in noted and _waits_for_file(sign):
                now[thread, 0.0, _UNKNOWN] = sign
        if signs and all(sign[0] in "Tt" for sign in signs.values()):
            return None  # stopped by the user
        kept = {}
        for key, sign in now.items():
            old = self._stuck.get(key)
            # a running thread may only be waiting for a core
            same = old is not None and old.sign == sign and not sign.startswith("R")
            kept[key] = _Stuck(sign, old.seconds + seconds if old is not None and same else 0.0)
        self._stuck = kept
        if not kept:
            return None
        key = max(kept, key=lambda key: kept[key].seconds)
        return key[2], kept[key].seconds

    def _report_stalls(self, stuck: dict[str, float]) -> None:
        for path in [path for path in self._reported if path not in stuck]:
            self.say(f"{path} answers again")
            del self._reported[path]
        for path, lasted in stuck.items():
            if lasted >= _REPORT_AFTER and path not in self._reported:
                self._reported[path] = lasted
                self.say(
                    f"no answer from {path} for {lasted:.0f} s: does its folder (a network one?) "
                    "still answer?"
                )

    def say(self, words: str) -> None:
        # a stderr that stalls must not block the watchdog
        writer = threading.Thread(target=_write, args=(f"{self.name}: {words}",), daemon=True)
        writer.start()
        writer.join(_END)


@dataclass(frozen=True)
class _Stuck:
    """A thread that makes no progress.

    Args:
        sign: its state and counters, see ``_signs``.
        seconds: for how long they have not changed.
    """

    sign: str
    seconds: float


def _watch(watch: _Watch, alive: int, verdict: int) -> NoReturn:
    """Runs the watchdog's process until the command ends."""
    seen: list[int] = []
    with contextlib.suppress(BaseException):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)  # otherwise a pipe's reader would wait for this process too
        try:
            _watch_on(watch, alive, verdict, seen)
        except Exception as error:
            watch.say(f"its watchdog failed: {type(error).__name__}: {error}")
    os._exit(0)


def _watch_on(watch: _Watch, alive: int, verdict: int, seen: list[int]) -> None:
    interrupts, last = 0, time.monotonic()
    while True:
        if select.select([alive], [], [], _TICK)[0]:
            signals = os.read(alive, 4096)
            if not signals:
                return
            interrupts += signals.count(signal.SIGINT)
        now = time.monotonic()
        if now - last < _TICK:
            continue
        # longer than a tick: the machine was suspended, or this process was stopped
        status = watch.tick(min(now - last, 2 * _TICK), max(interrupts, len(seen)))
        last = now
        if status is not None:
            if not _end(watch.command, verdict, status):
                watch.say(_CANNOT_END)
            return


def _end(command: int, verdict: int, status: int) -> bool:
    """Ends a command and all its children; the command exits by itself if it still can.

    Returns:
        Whether it has ended: while a FUSE server is stopped during a request, not even SIGKILL ends
        the process that waits for it.
    """
    children = _descendants(command) - {os.getpid()}
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # shows the cursor, which a progress bar hides
    os.write(verdict, bytes([status]))
    running = not _is_gone(command)
    for process in {command, *children} if running else children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    return _is_gone(command)


def _is_gone(command: int) -> bool:
    """Whether the parent of this process ends within ``_END`` seconds."""
    until = time.monotonic() + _END
    while os.getppid() == command and time.monotonic() < until:
        time.sleep(0.05)
    return os.getppid() != command


def _write(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))


def _waits_for_file(sign: str) -> bool:
    """Whether a thread sleeps uninterruptibly, or waits for a file server."""
    state, where = sign.split(" ")[:2]
    return state == "D" or (state == "S" and where.startswith(_SERVERS))


def _signs(process: int) -> dict[int, str]:
    """For each thread its state, kernel function and counters of activity; {} without /proc."""
    found = {}
    with contextlib.suppress(OSError):
        for task in os.listdir(_PROC / str(process) / "task"):
            with contextlib.suppress(OSError, IndexError):  # the thread has ended
                folder = _PROC / str(process) / "task" / task
                words = (folder / "stat").read_text().rpartition(")")[2].split()
                lines = (folder / "status").read_text().splitlines()
                switches = [line.split()[1] for line in lines if "voluntary_ctxt" in line]
                where = (folder / "wchan").read_text()
                found[int(task)] = " ".join([words[0], where, words[11], words[12], *switches])
    return found


def _descendants(process: int) -> set[int]:
    """All descendants of a process."""
    parents = {}
    with contextlib.suppress(OSError):
        for entry in os.listdir(_PROC):
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (_PROC / str(int(entry)) / "stat").read_text()
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    more = {process}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return found


def name_of(program: str) -> str:
    """A program and its command, as the user typed them."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return " ".join([program, *words[:1]])
