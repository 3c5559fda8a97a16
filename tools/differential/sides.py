"""The two sides of the test: any Caffe in a process of its own, and the port in this one."""

from __future__ import annotations

import contextlib
import io
import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caffe_port.errors import CaffePortError, UsageError
from tools.differential import other_side

Arrays = dict[str, NDArray[Any]]
_BOOT = "import sys;s=getattr(sys.stdin,'buffer',sys.stdin);exec(s.read(int(s.readline())))"
_STARTS_IN = 120.0  # seconds until a Caffe has been imported
_SPARE = 30.0  # seconds beyond a request's own limit before the whole side counts as hung


@dataclass
class Answer:
    """A side's answer to a request.

    Attributes:
        ended: 'ok'; 'refused' (a check failed or an exception was raised); 'crashed' (a signal, or
            for the port an exception that is not its own); 'late'.
        message: why it did not end well.
        header: stage reached, blobs and params (names and shapes), text.
        arrays: by part and name, as ``other_side`` names them.
    """

    ended: str
    message: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    def part(self, name: str) -> Arrays:
        """The arrays under ``name/``, without that."""
        return {
            key.removeprefix(f"{name}/"): value
            for key, value in self.arrays.items()
            if key.startswith(f"{name}/")
        }


class CaffeSide:
    """A Caffe behind an interpreter that can ``import caffe``; it is started when first asked.

    Args:
        command: what starts the interpreter, such as "chroot /debian python3".
        timeout: seconds for one request.
    """

    def __init__(self, command: str, timeout: float = 60.0) -> None:
        self.command, self.timeout = command, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._about: dict[str, Any] | None = None
        self._log: IO[bytes] | None = None  # its output; a pipe without a reader may fill

    def __enter__(self) -> CaffeSide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def about(self) -> dict[str, Any]:
        """Versions, layer types and schema, as ``other_side.describe`` gives them.

        Raises:
            UsageError: the command does not start, or its Python cannot import caffe.
        """
        if self._about is None:
            self._start()
        assert self._about is not None
        return self._about

    def ask(self, request: Mapping[str, Any], arrays: Arrays) -> Answer:
        """Has a request carried out; a side that died is started again for the next one."""
        process = self._process or self._start()
        assert process.stdin is not None
        sent = other_side.pack(dict(request, timeout=self.timeout), arrays)
        try:
            process.stdin.write(sent)
            process.stdin.flush()
            frame = self._frame(process, self.timeout + _SPARE)
        except (OSError, ValueError):
            frame = None
        if frame is None:
            self.stop()
            return Answer("crashed", f"the process of '{self.command}' ended or hung")
        header, content = frame
        answer = Answer(header["ended"], header["message"], {"log": header["log"]})
        return _merged(answer, content["frames"].tobytes())

    def _start(self) -> subprocess.Popen[bytes]:
        words = shlex.split(self.command)
        if not words:
            raise UsageError("--caffe is empty; expected a command that starts a Python")
        boot = shlex.quote(_BOOT) if Path(words[0]).name == "ssh" else _BOOT
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        try:
            process = subprocess.Popen(
                [*words, "-c", boot],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                start_new_session=True,  # Ctrl-C is only for the calling process
            )  # fmt: skip
        except OSError as error:
            self.stop()
            raise UsageError(f"--caffe '{self.command}' does not start: {error}") from error
        self._process = process
        code = Path(other_side.__file__).read_bytes()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(b"%d\n" % len(code) + code)
            process.stdin.flush()
        frame = self._frame(process, _STARTS_IN)
        if frame is None:
            said = self._last_words(process)
            self.stop()
            raise UsageError(
                f"--caffe '{self.command}' gave no answer; expected a Python that can import "
                f"caffe and reads its standard input (docker needs -i). It said: {said}"
            )
        self._about = frame[0]
        return process

    def _frame(
        self, process: subprocess.Popen[bytes], seconds: float
    ) -> tuple[dict[str, Any], Arrays] | None:
        assert process.stdout is not None
        return other_side.read_frame(_Timed(process.stdout, time.monotonic() + seconds))  # type: ignore[no-any-return, no-untyped-call]

    def _last_words(self, process: subprocess.Popen[bytes]) -> str:
        process.kill()
        process.wait()
        assert self._log is not None
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-2000:] or "nothing"

    def stop(self) -> None:
        """Ends the process; the next request starts another."""
        process, self._process = self._process, None
        if self._log is not None:
            self._log.close()
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Timed:
    """Reads exactly so many bytes from a pipe, or fewer where its end or the deadline comes."""

    def __init__(self, stream: BinaryIO | Any, deadline: float) -> None:
        self._handle, self._deadline = stream.fileno(), deadline

    def read(self, size: int) -> bytes:
        pieces, left = [], size
        while left:
            seconds = self._deadline - time.monotonic()
            if seconds <= 0 or not select.select([self._handle], [], [], seconds)[0]:
                break
            piece = os.read(self._handle, min(left, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _merged(answer: Answer, content: bytes) -> Answer:
    """Adds the frames that a child wrote before it ended."""
    stream = io.BytesIO(content)
    while (frame := other_side.read_frame(stream)) is not None:
        answer.header.update(frame[0])
        answer.arrays.update(frame[1])
    return answer


class _LateError(Exception):
    """The port takes longer than it may."""


def ask_port(request: Mapping[str, Any], arrays: Arrays, timeout: float = 60.0) -> Answer:
    """Has the port carry out a request, in this process and through ``caffe_port.pycaffe``.

    Raises:
        KeyboardInterrupt: as usual.
    """
    import caffe_port.pycaffe as caffe

    answer = Answer("ok")

    def emit(header: dict[str, Any], made: Sequence[Any]) -> None:
        answer.header.update(header)
        answer.arrays.update({name: np.array(value) for name, value in dict(made).items()})

    try:
        with other_side.own_folder(), _alarm(timeout), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other_side.REQUESTS[request["do"]](caffe, request, arrays, emit)
    except CaffePortError as error:
        answer.ended, answer.message = "refused", str(error)
    except _LateError:
        answer.ended, answer.message = "late", f"no answer in {timeout:g} s"
    except Exception as error:
        answer.ended, answer.message = "crashed", f"{type(error).__name__}: {error}"
    return answer


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise _LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
