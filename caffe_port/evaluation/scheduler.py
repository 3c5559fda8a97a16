"""The threads of an evaluation: which steps of which images run when, and on how many cores.

Images are worked on in steps. Those nearest their end come first, and only few are begun at a time.
"""

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

Item = TypeVar("Item")
T = TypeVar("T")

FIRST = 0  # the stage of an item's first step


@dataclass(frozen=True)
class Step(Generic[T]):
    """One step of an item's work.

    Args:
        stage: above ``FIRST``; higher ones are nearer the end.
        run: does the step and returns the next one or, at the end, the result.
    """

    stage: int
    run: Callable[[], Step[T] | T]


@dataclass(frozen=True)
class Role:
    """Threads that do the same stages.

    Args:
        count: how many.
        stages: of the steps they run.
        prepare: called at the start of each thread.
    """

    count: int
    stages: frozenset[int]
    prepare: Callable[[], None]


def run_steps(
    items: Iterator[Item],
    begin: Callable[[Item], Step[T] | T],
    roles: Sequence[Role],
    *,
    prefetch: int,
) -> Generator[T, None, None]:
    """Results in the order of the items.

    A thread takes the step of the highest stage it may run, of the earliest item where there are
    several, so that no core idles while there is work and few results wait between the stages.
    When the generator is closed, running steps finish and no other begins.

    Args:
        items: the next one is taken when it is begun, by one thread at a time.
        begin: an item's first step.
        roles: at least one thread for each stage.
        prefetch: how many items may be begun and not finished.
    Raises:
        BaseException: what a step or ``items`` raised, immediately.
    """
    scheduler: _Scheduler[Item, T] = _Scheduler(items, begin, prefetch)
    threads = [
        threading.Thread(target=scheduler.run, args=(role,), name=f"evaluate-{i}")
        for i, role in enumerate(role for role in roles for _ in range(role.count))
    ]
    try:
        for thread in threads:
            thread.start()
        yield from scheduler.results()
    finally:
        scheduler.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


class _Scheduler(Generic[Item, T]):
    """What the threads share, under one lock."""

    def __init__(
        self, items: Iterator[Item], begin: Callable[[Item], Step[T] | T], prefetch: int
    ) -> None:
        self._items, self._begin, self._prefetch = items, begin, prefetch
        self._changed = threading.Condition()
        self._waiting: dict[int, Step[T]] = {}
        self._order: deque[int] = deque()  # begun, and result not yet yielded
        self._done: dict[int, T] = {}
        self._begun = self._finished = 0
        self._exhausted = self._closed = False
        self._error: BaseException | None = None

    def run(self, role: Role) -> None:
        """Runs steps in a thread until nothing is left."""
        try:
            role.prepare()
            while (taken := self._take(role.stages)) is not None:
                number, step = taken
                self._put(number, step.run())
        except BaseException as error:  # raised again by ``results``
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _take(self, stages: frozenset[int]) -> tuple[int, Step[T]] | None:
        with self._changed:
            while not self._closed and self._error is None:
                ready = [number for number, step in self._waiting.items() if step.stage in stages]
                if ready:
                    best = max(ready, key=lambda number: (self._waiting[number].stage, -number))
                    return best, self._waiting.pop(best)
                if self._exhausted and self._begun == self._finished:
                    return None
                may_begin = not self._exhausted and self._begun - self._finished < self._prefetch
                if FIRST not in stages or not may_begin:
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
        """Each result as soon as those of all earlier items are yielded."""
        while True:
            with self._changed:
                self._changed.wait_for(self._is_next_done)
                if self._error is not None:
                    raise self._error
                if not self._order:
                    return
                result = self._done.pop(self._order.popleft())
            yield result

    def _is_next_done(self) -> bool:
        if self._error is not None:
            return True
        return self._order[0] in self._done if self._order else self._exhausted

    def close(self) -> None:
        """Keeps further steps from beginning."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


# Which threads an evaluation gets on this machine.

READ, NETWORK, FINISH = FIRST, 1, 2  # the stages of an image
_WORKERS = 4  # each holds the blobs of an image: beyond so many, each gets more threads


@dataclass(frozen=True)
class Threads:
    """A division of the cores.

    Args:
        workers: threads that run the network, each on its own image.
        each: threads the network may use for one of them.
        others: further threads, which read, refine and score.
        mixed: whether the workers read, refine and score too.
    """

    workers: int
    each: int
    others: int
    mixed: bool

    def roles(self) -> list[Role]:
        """The roles for ``run_steps``."""
        everything = frozenset({READ, NETWORK, FINISH})
        roles = [
            Role(
                self.workers,
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
    def prefetch(self) -> int:
        """Images begun at a time: one for each thread, and one ready for each worker."""
        return 2 * self.workers + self.others


def divide(
    cores: int, images: int, *, jobs: int | None, refiner_threads: int, on_cpu: bool
) -> Threads:
    """Divides the cores.

    With a network on the CPU every worker runs all stages, so that all cores have work whether
    the network or the CRF takes longer. With a network elsewhere the cores run the other stages.

    Args:
        cores: how many this process may use.
        images: how many there are; there are no more workers than these.
        jobs: workers; by default 1 for a network that is not on the CPU, else one for each core up
            to 4.
        refiner_threads: threads that only read, refine and score, on cores that the network does
            not use; 0 for none.
        on_cpu: whether the network runs on the CPU.
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
    workers = min(jobs or min(left, _WORKERS), images)
    return Threads(workers, max(1, left // workers), refiner_threads, mixed=not refiner_threads)


def cores(processes: int = 1) -> int:
    """Cores this process may use where so many processes share them; OMP_NUM_THREADS lowers it.

    torchrun sets OMP_NUM_THREADS to 1, so with several processes the variable is ignored.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    if processes > 1:
        return max(1, int(found) // processes)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(found), int(limit)) if limit.isdigit() and int(limit) else int(found)


def set_torch_threads(count: int) -> None:
    """Sets torch's number of threads for the calling thread, and for no other that runs already."""
    import torch

    # The first query makes torch set up this thread; done later it would overwrite our number.
    torch.get_num_threads()
    torch.set_num_threads(count)


@contextlib.contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Restores torch's default number of threads, which ``set_torch_threads`` changes too."""
    import torch

    mine = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(mine)
