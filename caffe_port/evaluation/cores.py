"""Which threads an evaluation gets on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from caffe_port.errors import UsageError
from caffe_port.evaluation.crew import FIRST, Role

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
