"""Runs an attack in a process of its own, under limits, and says how it ended.

The process is forked from one that has imported the package, so that what is measured is the
attack and not the import. It runs in a scene's copy, whose files are compared before and after, and what it prints
is looked through for codes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import stat
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.testing  # noqa: F401 - numpy 1.26 starts lscpu when it is first imported

from tests.attacks import scene
from tests.attacks.attack import Attack
from tests.attacks.entries import Entry
from tests.waiting import LIMIT, slowness

SECONDS, MEGABYTES = 2.0, 200.0  # what the table promises
ADDRESS_SPACE = 6 * 2**30  # above what is mapped at the start
CANARY = "EXECUTED"  # attacks that get code run make a file of this name
MARKUP = "<s>EXECUTED"  # part of names; a page must not contain it unescaped
#: Codes that a terminal interprets: control codes, marks of direction, halves of surrogate pairs.
CODES = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
FORGED = re.compile(r"^F0101 |^forged", re.MULTILINE)  # begins a line in no name's place
#: Events that no reader of a file may cause.
EXECUTING = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}


_executed: list[str] = []  # in this process, since an attack began
Start = Callable[[Entry, Path, Path, "Outcome"], None]
Listing = dict[str, tuple[int, int, int]]


@dataclass
class Outcome:
    """How one attack ended at one entry point.

    Attributes:
        family, attack, entry: which.
        end: 'refused' with an error of the package, 'read', 'foreign error', 'crashed', 'hung'.
        error: the error's class, or the signal.
        message: its first line, shortened.
        seconds: of the processor; nothing here waits for long, or it hangs.
        megabytes: the process's peak of resident memory above its start and the files' size.
        written: files that are new or changed.
        executed: what ran, or was written outside of the folder of results, and should not have.
        shown: codes that reached the terminal, or codes and markup that reached a page.
    """

    family: str
    attack: str
    entry: str
    end: str = "crashed"
    error: str = ""
    message: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    written: tuple[str, ...] = ()
    executed: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    def safe(self, may_read: bool) -> bool:
        """Whether it ended as it must, figures aside."""
        ended = self.end == "refused" or (may_read and self.end == "read")
        quiet = not (self.executed or self.shown)
        return ended and quiet and (self.end == "read" or not self.written)

    def within_bounds(self) -> bool:
        """Whether it was quick enough for this machine, and small enough."""
        return self.seconds <= SECONDS * slowness() and self.megabytes <= MEGABYTES


def prepare() -> None:
    """Imports everything an entry point may import, in the process that is forked."""
    import caffe_port

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for module in pkgutil.walk_packages(caffe_port.__path__, "caffe_port."):
        if not module.name.endswith(
            ("__main__", "_triton", "losses.feedback_kernels", "softmax_kernels", "ahead_of_time")
        ):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in ("scipy.io", "rich.table", "rich.progress", "torch._weights_only_unpickler"):
        importlib.import_module(name)
    from PIL import Image

    Image.init()
    gc.collect()
    gc.freeze()


class Runner:
    """Runs attacks in copies of one scene.

    Args:
        folder: where scenes are built; emptied as attacks end.
        start: runs one; by default in a process of its own.
    """

    def __init__(self, folder: Path, start: Start | None = None) -> None:
        self._start = start or fork
        self._good, self._here = folder / "good", folder / "scene"
        self._terminal = folder / "terminal"
        self._good.mkdir(parents=True)
        scene.build(self._good)

    def run(self, attack: Attack) -> Iterator[Outcome]:
        """The outcomes of all the attack's entries, each in a scene that is as at the start."""
        before, made = self._make(attack)
        # of what the attack brought, sparse files as their blocks
        size = sum(made[n][2] for n in made if made[n] != before.get(n))
        for entry in attack.entries:
            outcome = Outcome(attack.family, attack.name, entry.name)
            self._start(entry, self._here, self._terminal, outcome)
            outcome.megabytes = max(0.0, outcome.megabytes - size / 2**20)
            after = _listing(self._here)
            changed = [n for n in after if n not in made or after[n][:2] != made[n][:2]]
            written = (n for n in changed if not _is_mark(n) and not attack.kept(n))
            outcome.written = tuple(sorted(written))
            outcome.shown = _codes(self._terminal.read_bytes(), FORGED)
            for name in changed:
                if name.endswith((".html", ".svg")):
                    page = (self._here / name).read_bytes()
                    outcome.shown += _codes(page, re.compile(re.escape(MARKUP)))
            if any(Path(n).name == CANARY for n in changed):
                outcome.executed += (CANARY,)
            if attack.within:
                strayed = (n for n in changed if n.split("/")[0] != attack.within)
                outcome.executed += tuple(f"changed {name}" for name in strayed)
            yield outcome
            if changed or made.keys() - after.keys():
                before, made = self._make(attack)

    def _make(self, attack: Attack) -> tuple[Listing, Listing]:
        """The scene's files before the attack has brought its own, and after."""
        shutil.rmtree(self._here, ignore_errors=True)
        shutil.copytree(self._good, self._here, symlinks=True)
        before = _listing(self._here)
        attack.make(self._here)
        return before, _listing(self._here)


def _codes(content: bytes, bad: re.Pattern[str]) -> tuple[str, ...]:
    """The forbidden codes of a text, with their surroundings."""
    text = content.decode(errors="surrogateescape")
    found = (pattern.search(text) for pattern in (CODES, bad))
    return tuple(ascii(text[max(0, m.start() - 30) : m.end() + 30]) for m in found if m)


def _is_mark(name: str) -> bool:
    """Whether a name is that of the canary, or a mark of a folder without results."""
    return name == "out" or Path(name).name in (
        CANARY,
        ".evaluation.lock",
        ".crf.lock",
        "settings.json",
        "crf.json",
    )


def _listing(folder: Path) -> Listing:
    """Every file and folder with its time of change, size and size on the disk."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        when = 0 if stat.S_ISDIR(state.st_mode) else state.st_mtime_ns
        length = 0 if stat.S_ISDIR(state.st_mode) else state.st_size
        found[str(path.relative_to(folder))] = (when, length, state.st_blocks * 512)
    return found


def fork(entry: Entry, folder: Path, terminal: Path, outcome: Outcome) -> None:
    """Runs an attack in a process of its own, until it ends or time does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(entry, folder, terminal, outcome, writing)
    os.close(writing)
    start, status = time.monotonic(), None
    while status is None:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = code
        elif time.monotonic() - start > LIMIT:
            os.kill(child, signal.SIGKILL)
            outcome.end, outcome.seconds = "hung", time.monotonic() - start
            os.waitpid(child, 0)
            status = 0
        else:
            time.sleep(0.002)
    with os.fdopen(reading) as stream:
        report = stream.read()
    if report and outcome.end != "hung":
        found = json.loads(report)
        for name, value in found.items():
            setattr(outcome, name, tuple(value) if isinstance(value, list) else value)
    elif os.WIFSIGNALED(status):
        outcome.error = signal.Signals(os.WTERMSIG(status)).name


def _child(entry: Entry, folder: Path, terminal: Path, outcome: Outcome, writing: int) -> None:
    """Never returns."""
    try:
        confine()
        run_here(entry, folder, terminal, outcome)
        os.write(writing, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


def confine() -> None:
    """Limits for this process, which is a child."""
    mapped = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (mapped * 1024 + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    sys.addaudithook(lambda event, _: _executed.append(event) if event in EXECUTING else None)


def run_here(entry: Entry, folder: Path, terminal: Path, outcome: Outcome) -> None:
    """Runs an attack in this process, its output into a file."""
    os.chdir(folder)
    os.environ.update(HOME=str(folder / "home"), TMPDIR=str(folder / "home"))
    shown = os.open(terminal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(shown, stream)
    os.close(shown)
    sys.stdout = sys.stderr = open(  # noqa: SIM115
        1, "w", encoding="utf-8", errors="surrogateescape", closefd=False
    )
    _watched(entry, outcome)
    sys.stdout.flush()
    os.chdir("/")


def _watched(entry: Entry, outcome: Outcome) -> None:
    from caffe_port import errors

    raised: list[str] = []
    plain = errors.CaffePortError.__init__

    def noted(self: Exception, *arguments: Any) -> None:
        plain(self, *arguments)
        raised.append(f"{type(self).__name__}\n{self}")

    errors.CaffePortError.__init__ = noted  # type: ignore[method-assign]
    _executed.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    start, memory = time.process_time(), _status("VmRSS")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = entry.run()
        outcome.end = "refused" if status else "read"
        outcome.error = raised[-1] if raised and status else ""
        if status and not raised:
            outcome.error = "OSError" if status in (1, 2) else f"exit {status}"
    except errors.CaffePortError as error:
        outcome.end, outcome.error = "refused", f"{type(error).__name__}\n{error}"
        print(error)  # as Python would
    except OSError as error:
        # documented, where the system says why a file cannot be opened
        outcome.end = "refused" if error.filename else "foreign error"
        outcome.error = f"{type(error).__name__}\n{error}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome.end = "foreign error"
        outcome.error = f"{type(error).__name__}\n{where.filename}:{where.lineno}: {error}"
    finally:
        errors.CaffePortError.__init__ = plain  # type: ignore[method-assign]
    outcome.seconds = round(time.process_time() - start, 3)
    outcome.megabytes = round((_status("VmHWM") - memory) / 1024, 1)
    outcome.error, _, message = outcome.error.partition("\n")
    outcome.message = message.replace(str(Path.cwd()), ".").strip()[:400]
    outcome.executed = tuple(sorted(set(_executed)))


def _status(field: str) -> int:
    """A figure of /proc/self/status in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)
