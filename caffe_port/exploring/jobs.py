"""Computations of the page: one after the other on one thread, replaced by newer ones, cancelled.

A request of the page becomes a job. A newer job with the same key, such as the next position of a
slider, replaces one that waits and cancels one that runs.
"""

from __future__ import annotations

import json
import math
import struct
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.overrides import TorchFunctionMode

from caffe_port.errors import CaffePortError

MOST_WAITING = 64  # jobs
_ALIGNED = 8  # bytes


class DroppedError(Exception):
    """A newer request replaced this one, or nobody waits for it any more."""


class BusyError(CaffePortError):
    """Too many requests wait."""


@dataclass(frozen=True)
class Answer:
    """The result of a computation: values as JSON, and arrays.

    Attributes:
        head: JSON values; a number that is not finite becomes null.
        arrays: name -> uint8, uint16, int32 or float32 array.
    """

    head: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def packed(self) -> bytes:
        """The length of a JSON object as uint32, the object, and the arrays' bytes.

        The object has "head", and "arrays" with name, dtype, shape and offset of each: from the
        first multiple of 8 bytes after the object. All numbers are little-endian.
        """
        listed, parts, offset = [], [], 0
        for name, array in self.arrays.items():
            kind = array.dtype.newbyteorder("<")
            content = np.ascontiguousarray(array, dtype=kind).tobytes()
            shape = list(array.shape)
            listed.append({"name": name, "dtype": array.dtype.name, "shape": shape, "at": offset})
            padding = bytes(-len(content) % _ALIGNED)
            parts += [content, padding]
            offset += len(content) + len(padding)
        head = json.dumps({"head": _finite(self.head), "arrays": listed}).encode()
        head += b" " * (-(4 + len(head)) % _ALIGNED)
        return b"".join([struct.pack("<I", len(head)), head, *parts])


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Job:
    """A computation.

    Attributes:
        key: a newer job of the same key replaces it.
        future: of its result; has DroppedError where it was replaced or cancelled.
    """

    def __init__(self, key: Hashable, function: Callable[[], Any]) -> None:
        self.key, self._function = key, function
        self.future: Future[Any] = Future()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ends it at its next call of torch, or before it starts."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    def run(self) -> None:
        """Runs it, and sets the future."""
        try:
            if self.cancelled:
                raise DroppedError
            with _Cancelling(self):
                result = self._function()
        except BaseException as error:  # all errors belong to the request
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class _Cancelling(TorchFunctionMode):
    """Ends a cancelled job before its next call of torch: between two layers, or inside one."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._job.cancelled:
            raise DroppedError
        return func(*args, **(kwargs or {}))


class Worker:
    """Runs jobs on a thread of its own, one at a time, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="explore", daemon=True)
        self._thread.start()

    def submit(self, key: Hashable, function: Callable[[], Any]) -> Job:
        """Adds a job; those of the same key are dropped.

        Raises:
            BusyError: too many wait.
        """
        job = Job(key, function)
        with self._changed:
            replaced = [other for other in self._waiting if other.key == key]
            if len(self._waiting) - len(replaced) >= MOST_WAITING or self._ending:
                raise BusyError("the server is busy with earlier requests; try again")
            for other in replaced:
                self._waiting.remove(other)
                other.future.set_exception(DroppedError())
            if self._running is not None and self._running.key == key:
                self._running.cancel()
            self._waiting.append(job)
            self._changed.notify()
        return job

    def close(self, timeout: float | None = 10) -> None:
        """Cancels all jobs and waits for the thread.

        Args:
            timeout: seconds that the running job gets to end; None for as long as it takes.
        """
        with self._changed:
            self._ending = True
            for job in self._waiting:
                job.future.set_exception(DroppedError())
            self._waiting.clear()
            if self._running is not None:
                self._running.cancel()
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if self._ending:
                    return
                job = self._running = self._waiting.popleft()
            job.run()
