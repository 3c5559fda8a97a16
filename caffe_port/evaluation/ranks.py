"""One evaluation shared by the processes that torchrun started, on one machine or several.

Ranks take the next image of the list when they are free for one, so slow machines hold nobody
up. They speak through torchrun's key-value store, and hand each other their outcomes over gloo.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar

from caffe_port.errors import CaffePortError, UsageError

T = TypeVar("T")

SILENCE = 30.0  # seconds without a sign of life after which a rank counts as dead
_BEAT = 1.0  # seconds between signs of life
_POLL = 0.05
_MEETING = timedelta(minutes=10)  # for ranks to start, and for a collective once all are there


class Ranks(Protocol):
    """The processes of an evaluation, seen from one of them."""

    number: int
    size: int
    local: int  # how many of them are on this machine

    def claims(self, count: int) -> Iterator[int]:
        """Numbers below ``count`` that this rank is to do, ascending; each goes to one rank.

        Before it is asked again, for another list, the ranks ``gather``.
        """

    def finished(self) -> int:
        """Says that one more is done, and how many are in all."""

    def gather(self, mine: T) -> list[T]:
        """What every rank gives, by rank; all wait for each other."""


class Alone:
    """This process only."""

    number, size, local = 0, 1, 1

    def __init__(self) -> None:
        self._finished = 0

    def claims(self, count: int) -> Iterator[int]:
        """All of them."""
        self._finished = 0
        return iter(range(count))

    def finished(self) -> int:
        """How many are done."""
        self._finished += 1
        return self._finished

    def gather(self, mine: T) -> list[T]:
        """A list of one."""
        return [mine]


class TorchRanks:
    """A rank among those that torchrun started; made by ``joined``.

    Raises:
        CaffePortError: from every method: another rank failed or no longer answers.
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
        """As they come, in the order of all ranks' asking."""
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
        """Waits for all ranks, however long they take, as long as they live."""
        from torch import distributed

        self._meetings += 1
        name = f"meeting {self._meetings}"
        arrived = self._add(name)
        while arrived < self.size:
            self._check()
            time.sleep(_POLL)
            arrived = self._add(name, 0)
        result: list[T | None] = [None] * self.size
        with self._translated():
            distributed.all_gather_object(result, mine)
        return result  # type: ignore[return-value]  # every place is filled

    def fail(self, message: str) -> None:
        """Tells the others to end."""
        with contextlib.suppress(RuntimeError):
            if not self._store.check(["failed"]):
                self._store.set("failed", f"rank {self.number}: {message}")

    def leave(self) -> None:
        """Gives no more signs of life."""
        self._ended.set()
        self._watch.join()

    def _add(self, name: str, count: int = 1) -> int:
        with self._translated():
            return int(self._store.add(name, count))

    def _check(self) -> None:
        with self._translated():
            failed = self._store.get("failed").decode() if self._store.check(["failed"]) else ""
        if failed and not failed.startswith(f"rank {self.number}: "):
            raise RankError(f"another process of this evaluation failed: {failed}")
        if self._silent is not None:
            raise RankError(
                f"rank {self._silent} gave no sign of life for {SILENCE:.0f} s: its process or "
                "machine died. What is finished is kept: run the same command again to go on"
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankError(
                "the other processes of this evaluation can no longer be reached, so one of them "
                f"died: {str(error).splitlines()[0]}. What is finished is kept: run the same "
                "command again to go on"
            ) from error

    def _beat(self) -> None:
        """Gives signs of life, and watches the next rank's."""
        after, last, changed = (self.number + 1) % self.size, -1, time.monotonic()
        with contextlib.suppress(RuntimeError):  # the main thread will notice too, and say so
            while not self._ended.wait(_BEAT):
                self._store.add(f"beat {self.number}", 1)
                beat = self._store.add(f"beat {after}", 0)
                now = time.monotonic()
                if beat != last:
                    last, changed = beat, now
                elif now - changed > SILENCE:
                    self._silent = after
                    self.fail(f"rank {after} gave no sign of life for {SILENCE:.0f} s")


class RankError(CaffePortError):
    """Another process of the evaluation failed; this one did not."""


@contextlib.contextmanager
def joined() -> Generator[Ranks, None, None]:
    """The ranks torchrun started, or this process alone where it did not.

    An exception inside ends the other ranks too, with its message.

    Raises:
        RankError: the other ranks do not come.
        UsageError: torchrun's variables are there but make no sense.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield Alone()
        return
    # when a process dies, the others say it in one line; gloo would add pages of addresses
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch import distributed

    made: Any = distributed  # its type stubs know little of stores
    number, size, local = _numbers()
    earlier = signal.signal(signal.SIGTERM, _terminated)
    try:
        store, *_ = next(made.rendezvous("env://", number, size, timeout=_MEETING))
        groups = made.PrefixStore("gloo", store)
        distributed.init_process_group(
            "gloo", store=groups, rank=number, world_size=size, timeout=_MEETING
        )
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"the processes torchrun started do not find each other: {error}"
        ) from error
    ranks = TorchRanks(made.PrefixStore("evaluate", store), number, size, local)
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


def _numbers() -> tuple[int, int, int]:
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    try:
        number, size, local = (int(os.environ.get(name, "1")) for name in names)
        if not 0 <= number < size or not 1 <= local <= size:
            raise ValueError
    except ValueError:
        found = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise UsageError(f"{found}: not what torchrun sets") from None
    return number, size, local


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise RankError(
        "told to end, as torchrun does when another process ended: what is finished is kept, the "
        "same command goes on from there"
    )
