"""Python programs as processes of their own that need not import torch again.

Most of a short command's time is ``import torch``. A server imports it and other libraries once;
each program is a process that the server forks, with arguments, folder, environment and files of
its own. The server has imported nothing of this project.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

#: What programs import, most of the time first.
PRELOADED = (
    "torch", "numpy", "scipy.ndimage", "scipy.spatial", "onnx", "PIL.Image", "click",
    "google.protobuf.text_format", "google.protobuf.internal.builder", "rich.table",
    "rich.progress",
)  # fmt: skip

_NUMBER = struct.Struct("!i")
_WRAPPER = """#!{python} -IS
import os, sys
sys.path.insert(0, {folder!r})
import preloaded
preloaded.replace({words!r} + sys.argv[1:], {address!r})
"""


class Process:
    """A Python program in a session of its own, with the interface of subprocess.Popen.

    Args:
        words: the interpreter, "-W error" perhaps; then "-c" and a text, "-m" and a module, or a
            script; arguments.
        address: of the server.
        stdin, stdout, stderr: as for Popen; what is piped is text.
    """

    def __init__(
        self,
        words: Sequence[str | os.PathLike[str]],
        address: str,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        job = {"words": [os.fspath(word) for word in words], "cwd": os.fspath(cwd or os.getcwd()),
               "env": dict(os.environ if env is None else env)}  # fmt: skip
        with contextlib.ExitStack() as opened:
            files = [0 if stdin is None else _opened(stdin, opened)]
            self.stdout, file = _output(stdout, 1, opened)
            files.append(file)
            default = files[1] if stderr == subprocess.STDOUT else 2
            self.stderr, file = _output(stderr, default, opened)
            files.append(file)
            self._server = socket.socket(socket.AF_UNIX)
            self._server.connect(address)
            content = json.dumps(job).encode()
            socket.send_fds(self._server, [_NUMBER.pack(len(content))], files)
            self._server.sendall(content)
        self.pid = _received(self._server)

    def poll(self) -> int | None:
        """Its status if it has ended."""
        if self.returncode is None and select.select([self._server], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended; subprocess.TimeoutExpired if it has not in time."""
        if self.returncode is None:
            if not select.select([self._server], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = _received(self._server)
            self._server.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """What is left to read, and waits for its end."""
        said: dict[int, str] = {}
        pipes = [pipe for pipe in (self.stdout, self.stderr) if pipe is not None]
        threads = [
            threading.Thread(target=lambda p=pipe: said.update({id(p): p.read()}), daemon=True)
            for pipe in pipes
        ]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join()
        for pipe in pipes:
            pipe.close()
        return said.get(id(self.stdout)), said.get(id(self.stderr))

    def send_signal(self, number: int) -> None:
        """A signal to it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()


def _opened(given: int, opened: contextlib.ExitStack) -> int:
    if given != subprocess.DEVNULL:
        return given
    return opened.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()


def _output(given: int | None, default: int, opened: contextlib.ExitStack) -> tuple[Any, int]:
    """What is read here, and the program's file."""
    if given in (None, subprocess.STDOUT):
        return None, default
    if given != subprocess.PIPE:
        return None, _opened(given, opened)
    reading, writing = os.pipe()
    opened.callback(os.close, writing)
    return open(reading, encoding="utf-8", errors="replace"), writing


def _received(server: socket.socket) -> int:
    content = server.recv(_NUMBER.size, socket.MSG_WAITALL)
    if len(content) < _NUMBER.size:
        raise ConnectionError("the server of preloaded programs has ended")
    return int(_NUMBER.unpack(content)[0])


def start(words: Sequence[str | os.PathLike[str]], **options: Any) -> Process:
    """Starts a program; see Process."""
    return Process(words, _address(), **options)


def run(
    words: Sequence[str | os.PathLike[str]], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; what it wrote is text."""
    process = start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    said, wrong = process.communicate()
    return subprocess.CompletedProcess(words, process.wait(), said, wrong)


@cache
def _address() -> str:
    """The socket of this process's server, which ends with this process."""
    folder = tempfile.mkdtemp(prefix="preloaded")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = f"{folder}/socket"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    atexit.register(server.communicate)
    if server.stdout is None or server.stdout.read(1) != b"\n":
        raise ConnectionError("the server of preloaded programs could not start")
    return path


def write_commands(folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
    """Fills a folder for the PATH with commands: names, and what Python is called with."""
    for name, words in commands.items():
        text = _WRAPPER.format(python=sys.executable, folder=str(Path(__file__).parent),
                               words=[sys.executable, *words], address=_address())  # fmt: skip
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def replace(words: Sequence[str], address: str) -> None:
    """Runs a program in place of this process, or Python itself where no program is named."""
    if not words[1:] or (words[1].startswith("-") and words[1] not in ("-c", "-m", "-W")):
        os.execv(words[0], words)
    process = Process(words, address)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: process.send_signal(given))
    status = process.wait()
    if status < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _jobs(listening: socket.socket) -> Iterator[dict[str, Any]]:
    """In the server nothing; in each process that it forks the job."""
    while True:
        ready = select.select([0, listening], [], [])[0]
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # so that their processor time is counted
                pass
        if 0 in ready:
            os._exit(0)  # the process that started this one has ended
        client, _ = listening.accept()
        if os.fork() == 0:
            size, files, _, _ = socket.recv_fds(client, _NUMBER.size, 3)
            content = client.recv(_NUMBER.unpack(size)[0], socket.MSG_WAITALL)
            child = os.fork()
            if child == 0:
                listening.close()
                client.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                yield json.loads(content)
                return
            for file in files:
                os.close(file)
            client.sendall(_NUMBER.pack(child))
            with contextlib.suppress(OSError):  # nobody may want to know
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                client.sendall(_NUMBER.pack(status))
            os._exit(0)
        client.close()


def _serve(path: str) -> dict[str, Any]:
    """The server; returns in the processes that it forks."""
    gc.disable()  # nothing that is imported is garbage
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    import numpy as np

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    gc.freeze()  # what is shared stays shared when a program collects its garbage
    gc.enable()
    os.write(1, b"\n")
    job = next(_jobs(listening))
    os.setsid()
    np.random.seed()
    return job


def _become(job: Mapping[str, Any]) -> None:
    """Runs the job's program as Python would."""
    here, (kind, *rest) = str(Path(__file__).parent), job["words"][1:]
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    given = [path for path in job["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path = [*given, *(path for path in sys.path if path not in (here, *given))]
    if any(Path(path, "sitecustomize.py").is_file() for path in given):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")  # as Python does when it starts
    paths = list(sys.path)
    if kind == "-W":
        assert rest[0] == "error", rest
        warnings.simplefilter("error")
        _, kind, *rest = rest
    if kind == "-c":
        sys.argv, sys.path = ["-c", *rest[1:]], ["", *paths]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv, sys.path = ["-m", *rest[1:]], [job["cwd"], *paths]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path = [kind, *rest], [str(Path(kind).resolve().parent), *paths]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    _become(_serve(sys.argv[1]))
