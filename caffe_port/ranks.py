"""The processes that torchrun started: those of one training and those of one evaluation.

A training's processes share every batch, so they exchange tensors in the same order. An
evaluation's processes each take the next image of the list when they are free, so that a slow
machine delays no other; they meet in torchrun's key-value store, and exchange outcomes over gloo.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from caffe_port.errors import CaffePortError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

SILENCE = 30.0  # seconds without a heartbeat after which a rank counts as dead
_BEAT = 1.0  # seconds between two heartbeats
_POLL = 0.05
_START = timedelta(minutes=10)  # for an evaluation's ranks to start and to exchange outcomes
_PATIENCE = timedelta(minutes=30)  # for a rank that writes a snapshot or reads a slow disk
_BUCKET = 2**22  # numbers that are added up at a time
_KEPT = "Completed results are kept: run the same command again to resume"


class RankError(CaffePortError):
    """Another process failed, ended or does not respond; this one did not fail."""


def is_one_of_several() -> bool:
    """Whether torchrun, or a program that sets the same variables, started other processes too."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _environment() -> tuple[int, int, int]:
    """Rank, number of ranks, and how many of them are on this machine.

    Raises:
        UsageError: the variables are not torchrun's.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    try:
        number, size, local = (int(os.environ.get(name, "1")) for name in names)
        if "RANK" not in os.environ or not 0 <= number < size or not 1 <= local <= size:
            raise ValueError
    except ValueError:
        found = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise UsageError(f"{found}: not what torchrun sets") from None
    return number, size, local


@contextlib.contextmanager
def _translated(message: str, end: str = "") -> Iterator[None]:
    """Raises torch's error about another process as a RankError of one line."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(f"{message}: {str(error).splitlines()[0]}{end}") from error


# The processes of a training.


class BatchRanks:
    """All processes of a training, seen from one of them; see ``training_ranks``.

    Attributes:
        rank: this process, from 0.
        count: how many there are.
    Raises:
        RankError: from every method: another process has ended.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    @property
    def is_root(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    def part(self, values: Tensor) -> Tensor:
        """This process's items of a whole batch, a view."""
        size = len(values) // self.count
        return values[self.rank * size : (self.rank + 1) * size]

    def sum(self, values: Tensor) -> None:
        """Adds up over all processes, in place; all get the same numbers."""
        from torch import distributed

        with _training_errors():
            distributed.all_reduce(values)

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """Adds up many tensors over all processes, in place, some megabytes at a time."""
        import torch

        bucket: list[Tensor] = []
        for i, tensor in enumerate(tensors):
            bucket.append(tensor)
            sizes = [one.numel() for one in bucket]
            if i + 1 == len(tensors) or sum(sizes) >= _BUCKET:
                flat = torch.cat([one.reshape(-1) for one in bucket])
                self.sum(flat)
                for one, values in zip(bucket, torch.split(flat, sizes), strict=True):
                    one.copy_(values.view_as(one))
                bucket = []

    def gather(self, part: Tensor) -> Tensor:
        """All processes' items, (N, ...) from (N / count, ...); bool too."""
        import torch
        from torch import distributed

        plain = part.detach().contiguous()
        sent = plain.to(torch.uint8) if plain.dtype == torch.bool else plain
        found = [torch.empty_like(sent) for _ in range(self.count)]
        with _training_errors():
            distributed.all_gather(found, sent)
        return torch.cat(found).to(plain.dtype)

    def max(self, value: int) -> int:
        """The largest of all processes' numbers."""
        import torch
        from torch import distributed

        values = torch.tensor([value])
        with _training_errors():
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)

    def from_root(self, value: int) -> int:
        """The number that the root has."""
        import torch
        from torch import distributed

        values = torch.tensor([value])
        with _training_errors():
            distributed.broadcast(values, 0)
        return int(values)

    def check_equal(self, value: int, what: str) -> None:
        """Refuses to continue where the processes have different numbers.

        Raises:
            UsageError: names ``what`` differs.
        """
        if self.max(value) != value or self.max(-value) != -value:
            raise UsageError(
                f"process {self.rank} of {self.count}: {what} differs from that of the others"
            )


def _training_errors() -> contextlib.AbstractContextManager[None]:
    return _translated("another process of the training has ended")


@contextlib.contextmanager
def training_ranks() -> Iterator[BatchRanks | None]:
    """Connects the processes of a training for the block; None where there is only one.

    Raises:
        RankError: the other processes do not come.
        UsageError: the environment is not torchrun's.
    """
    if not is_one_of_several():
        yield None
        return
    import torch
    from torch import distributed

    if not distributed.is_available():
        raise UsageError("this torch was built without torch.distributed; train in one process")
    _environment()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with _translated("the other processes cannot be reached"):
            distributed.init_process_group(backend, timeout=_PATIENCE)
    except ValueError as error:
        raise UsageError(f"start the processes with torchrun: {error}") from error
    try:
        yield BatchRanks(distributed.get_rank(), distributed.get_world_size())
        with _training_errors():
            # torch 2.4 may wait for ever to leave a process that has left already
            distributed.barrier()
    finally:
        distributed.destroy_process_group()


# The processes of an evaluation.


class ImageRanks(Protocol):
    """The processes of an evaluation, seen from one of them; see ``evaluation_ranks``."""

    number: int
    size: int
    local: int  # how many of them are on this machine

    def claims(self, count: int) -> Iterator[int]:
        """Numbers below ``count`` that this rank is to do, ascending; each goes to one rank.

        The ranks must ``gather`` before they claim from another list.
        """

    def finished(self) -> int:
        """Counts one more item as done, and returns how many all ranks have done."""

    def gather(self, mine: T) -> list[T]:
        """What every rank gives, by rank; all wait for each other."""


class SingleRank:
    """One process that evaluates alone."""

    number, size, local = 0, 1, 1

    def __init__(self) -> None:
        self._finished = 0

    def claims(self, count: int) -> Iterator[int]:
        """All numbers."""
        self._finished = 0
        return iter(range(count))

    def finished(self) -> int:
        """How many items are done."""
        self._finished += 1
        return self._finished

    def gather(self, mine: T) -> list[T]:
        """A list of one."""
        return [mine]


class StoreRanks:
    """One of several evaluating processes, which meet in torchrun's key-value store.

    Raises:
        RankError: from every method: another rank failed or does not respond.
    """

    def __init__(self, store: Any, number: int, size: int, local: int) -> None:
        self.number, self.size, self.local = number, size, local
        self._store = store
        self._ended = threading.Event()
        self._silent: int | None = None
        self._watch = threading.Thread(target=self._beat, name="evaluate-beat", daemon=True)
        self._meetings = 0
        self._watch.start()

    def claims(self, count: int) -> Iterator[int]:
        """The next numbers that no rank has claimed."""
        while (number := self._add(self._of_this_list("claimed")) - 1) < count:
            yield number

    def finished(self) -> int:
        """Counts over all ranks."""
        self._check()
        return self._add(self._of_this_list("finished"))

    def _of_this_list(self, name: str) -> str:
        """All ranks have met equally often when they begin a list, and meet again after it."""
        return f"{name} after {self._meetings} meetings"

    def gather(self, mine: T) -> list[T]:
        """Waits for all ranks, however long they take, as long as their heartbeats arrive."""
        from torch import distributed

        self._meetings += 1
        name = f"meeting {self._meetings}"
        arrived = self._add(name)
        while arrived < self.size:
            self._check()
            time.sleep(_POLL)
            arrived = self._add(name, 0)
        result: list[T | None] = [None] * self.size
        with self._errors():
            distributed.all_gather_object(result, mine)
        return result  # type: ignore[return-value]  # every place is filled

    def fail(self, message: str) -> None:
        """Makes the other ranks fail with this message."""
        with contextlib.suppress(RuntimeError):
            if not self._store.check(["failed"]):
                self._store.set("failed", f"rank {self.number}: {message}")

    def leave(self) -> None:
        """Stops the heartbeats."""
        self._ended.set()
        self._watch.join()

    def _add(self, name: str, count: int = 1) -> int:
        with self._errors():
            return int(self._store.add(name, count))

    def _check(self) -> None:
        with self._errors():
            failed = self._store.get("failed").decode() if self._store.check(["failed"]) else ""
        if failed and not failed.startswith(f"rank {self.number}: "):
            raise RankError(f"another process of this evaluation failed: {failed}")
        if self._silent is not None:
            raise RankError(
                f"rank {self._silent} did not respond for {SILENCE:.0f} s: its process or machine "
                f"died. {_KEPT}"
            )

    @staticmethod
    def _errors() -> contextlib.AbstractContextManager[None]:
        message = "the other processes of this evaluation cannot be reached, so one of them died"
        return _translated(message, f". {_KEPT}")

    def _beat(self) -> None:
        """Sends this rank's heartbeats, and watches those of the next rank."""
        after, last, changed = (self.number + 1) % self.size, -1, time.monotonic()
        with contextlib.suppress(RuntimeError):  # the main thread will meet the same error
            while not self._ended.wait(_BEAT):
                self._store.add(f"beat {self.number}", 1)
                beat = self._store.add(f"beat {after}", 0)
                now = time.monotonic()
                if beat != last:
                    last, changed = beat, now
                elif now - changed > SILENCE:
                    self._silent = after
                    self.fail(f"rank {after} did not respond for {SILENCE:.0f} s")


@contextlib.contextmanager
def evaluation_ranks() -> Generator[ImageRanks, None, None]:
    """Connects the processes of an evaluation for the block; one where torchrun started none.

    An exception in the block ends the other ranks too, with its message.

    Raises:
        RankError: the other ranks do not come.
        UsageError: torchrun's variables are set but make no sense.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield SingleRank()
        return
    # when a process dies the others say so in one line; gloo would add pages of addresses
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch import distributed

    untyped: Any = distributed  # its type stubs lack the stores
    number, size, local = _environment()
    earlier = signal.signal(signal.SIGTERM, _terminated)
    try:
        store, *_ = next(untyped.rendezvous("env://", number, size, timeout=_START))
        groups = untyped.PrefixStore("gloo", store)
        distributed.init_process_group(
            "gloo", store=groups, rank=number, world_size=size, timeout=_START
        )
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"the processes torchrun started do not find each other: {error}"
        ) from error
    ranks = StoreRanks(untyped.PrefixStore("evaluate", store), number, size, local)
    try:
        yield ranks
    except BaseException as error:
        if not isinstance(error, RankError):
            ranks.fail(str(error) or type(error).__name__)
        raise
    finally:
        ranks.leave()
        distributed.destroy_process_group()
        signal.signal(signal.SIGTERM, earlier)


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise RankError(f"asked to end, as torchrun does when another process ended. {_KEPT}")
