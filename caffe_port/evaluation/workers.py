"""Worker processes: how many cores they get, and how work is handed to them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from caffe_port.errors import UsageError

# Many items worked on in threads: those nearest their end first, and only few begun at a time.

Item = TypeVar("Item")
T = TypeVar("T")

FIRST = 0  # the stage of an item's first step


@dataclass(frozen=True)
class Step(Generic[T]):
    """A piece of one item's work.

    Args:
        stage: above ``FIRST``; higher ones are nearer the end.
        run: does it, and gives the next step or, at the end, the result.
    """

    stage: int
    run: Callable[[], Step[T] | T]


@dataclass(frozen=True)
class Role:
    """Threads that are alike.

    Args:
        count: how many.
        stages: of the steps they do.
        prepare: called at the start of each thread.
    """

    count: int
    stages: frozenset[int]
    prepare: Callable[[], None]


def work(
    items: Iterator[Item],
    begin: Callable[[Item], Step[T] | T],
    roles: Sequence[Role],
    *,
    ahead: int,
) -> Generator[T, None, None]:
    """Results in the order of the items.

    A thread takes the step of the highest stage it may do, of the earliest item where there are
    several, so that no core waits while there is work and little lies between the stages.
    Closing the generator lets the steps at work finish, no more.

    Args:
        items: asked for the next one when it is begun, by one thread at a time.
        begin: an item's first step.
        roles: at least one thread for each stage.
        ahead: items begun and not finished, at most.
    Raises:
        BaseException: what a step or ``items`` raised, at once.
    """
    floor: _Floor[Item, T] = _Floor(items, begin, ahead)
    threads = [
        threading.Thread(target=floor.serve, args=(role,), name=f"evaluate-{i}")
        for i, role in enumerate(role for role in roles for _ in range(role.count))
    ]
    try:
        for thread in threads:
            thread.start()
        yield from floor.results()
    finally:
        floor.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


class _Floor(Generic[Item, T]):
    """What the threads share; everything under one lock."""

    def __init__(
        self, items: Iterator[Item], begin: Callable[[Item], Step[T] | T], ahead: int
    ) -> None:
        self._items, self._begin, self._ahead = items, begin, ahead
        self._changed = threading.Condition()
        self._waiting: dict[int, Step[T]] = {}
        self._order: deque[int] = deque()  # begun and not yet given out
        self._done: dict[int, T] = {}
        self._begun = self._finished = 0
        self._exhausted = self._closed = False
        self._error: BaseException | None = None

    def serve(self, role: Role) -> None:
        """What each thread does until nothing is left."""
        try:
            role.prepare()
            while (taken := self._take(role.stages)) is not None:
                number, step = taken
                self._put(number, step.run())
        except BaseException as error:  # whatever it is, it must not be lost with the thread
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _take(self, stages: frozenset[int]) -> tuple[int, Step[T]] | None:
        with self._changed:
            while not self._closed and self._error is None:
                able = [number for number, step in self._waiting.items() if step.stage in stages]
                if able:
                    best = max(able, key=lambda number: (self._waiting[number].stage, -number))
                    return best, self._waiting.pop(best)
                if self._exhausted and self._begun == self._finished:
                    return None
                room = not self._exhausted and self._begun - self._finished < self._ahead
                if FIRST not in stages or not room:
                    self._changed.wait()
                elif (first := self._next()) is not None:
                    return first
            return None

    def _next(self) -> tuple[int, Step[T]] | None:
        try:
            item = next(self._items)
        except StopIteration:
            self._exhausted = True
            self._changed.notify_all()
            return None
        number = self._begun
        self._begun += 1
        self._order.append(number)
        return number, Step(FIRST, lambda: self._begin(item))

    def _put(self, number: int, after: Step[T] | T) -> None:
        with self._changed:
            if isinstance(after, Step):
                self._waiting[number] = after
            else:
                self._done[number] = after
                self._finished += 1
            self._changed.notify_all()

    def results(self) -> Generator[T, None, None]:
        """Each result as soon as those before it are given out."""
        while True:
            with self._changed:
                self._changed.wait_for(self._ripe)
                if self._error is not None:
                    raise self._error
                if not self._order:
                    return
                result = self._done.pop(self._order.popleft())
            yield result

    def _ripe(self) -> bool:
        if self._error is not None:
            return True
        return self._order[0] in self._done if self._order else self._exhausted

    def close(self) -> None:
        """No step begins after this."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


# Which threads an evaluation gets on this machine.

READ, NETWORK, FINISH = FIRST, 1, 2  # the stages of an image
_LANES = 4  # each holds the blobs of an image: beyond so many, more threads a lane


@dataclass(frozen=True)
class Threads:
    """A division of the cores.

    Args:
        lanes: images in the network at the same time.
        each: threads the network may use for one of them.
        others: threads beside them that read, refine and score.
        mixed: whether a lane reads, refines and scores too.
    """

    lanes: int
    each: int
    others: int
    mixed: bool

    def roles(self) -> list[Role]:
        """For ``crew.work``."""
        everything = frozenset({READ, NETWORK, FINISH})
        roles = [
            Role(
                self.lanes,
                everything if self.mixed else frozenset({NETWORK}),
                partial(set_torch_threads, self.each),
            )
        ]
        if self.others:
            roles.append(Role(self.others, everything - {NETWORK}, partial(set_torch_threads, 1)))
        return roles

    @property
    def refining(self) -> int:
        """Threads for the refinement of one image."""
        return self.each if self.mixed else 1

    @property
    def ahead(self) -> int:
        """Images begun at a time: one in each thread's hands and one ready for each lane."""
        return 2 * self.lanes + self.others


def divide(
    cores: int, images: int, *, jobs: int | None, refiner_threads: int, on_cpu: bool
) -> Threads:
    """Divides the cores.

    On the CPU, lanes do everything and whatever is nearest its end first, so that all cores have
    work however the network and the CRF compare. A network elsewhere keeps its lanes busy while
    the cores do the rest.

    Args:
        cores: how many there are for this process.
        images: no more lanes than these.
        jobs: lanes; by default 1 for a network that is not on the CPU, else one for each core up
            to 4.
        refiner_threads: threads that only read, refine and score; their cores are not the
            network's. 0 for none of their own.
        on_cpu: whether the network computes there.
    Raises:
        UsageError: a number out of range.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"at least one job is needed, got {jobs}")
    if refiner_threads < 0:
        raise UsageError(f"{refiner_threads} threads that refine; expected at least 0")
    if not on_cpu:
        return Threads(min(jobs or 1, images), 1, refiner_threads or cores, mixed=False)
    left = max(1, cores - refiner_threads)
    lanes = min(jobs or min(left, _LANES), images)
    return Threads(lanes, max(1, left // lanes), refiner_threads, mixed=not refiner_threads)


def cores(processes: int = 1) -> int:
    """Cores this process may use where so many share them; OMP_NUM_THREADS lowers it.

    torchrun sets OMP_NUM_THREADS to 1 by itself, so with several processes it says nothing.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    if processes > 1:
        return max(1, int(found) // processes)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(found), int(limit)) if limit.isdigit() and int(limit) else int(found)


def set_torch_threads(count: int) -> None:
    """Gives the calling thread, and no other that runs already, its number for torch."""
    import torch

    # The first question makes torch set up this thread; later it would overwrite our number.
    torch.get_num_threads()
    torch.set_num_threads(count)


@contextlib.contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Keeps what threads started later will have; ``set_torch_threads`` changes that too."""
    import torch

    mine = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(mine)
