"""The processes of one training: who they are and what they tell each other.

``torchrun`` starts them and says in the environment who is who.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
from torch import Tensor, distributed

from caffe_port.errors import CaffePortError, UsageError

_BUCKET = 2**22  # numbers
_PATIENCE = timedelta(minutes=30)  # for one that writes a snapshot, or reads a slow disk


class PeerError(CaffePortError):
    """Another process of the training has ended or does not answer."""


class Ranks:
    """All processes of a training, seen from one of them; ``joined`` makes it.

    Attributes:
        rank: this process, from 0.
        count: how many there are.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    @property
    def is_root(self) -> bool:
        """Whether this one logs and writes files."""
        return self.rank == 0

    def part(self, values: Tensor) -> Tensor:
        """This process's items of a whole batch, a view."""
        size = len(values) // self.count
        return values[self.rank * size : (self.rank + 1) * size]

    def sum(self, values: Tensor) -> None:
        """Adds up over all processes, in place; all get the same numbers."""
        with _peers_named():
            distributed.all_reduce(values)

    def gather(self, part: Tensor) -> Tensor:
        """All processes' items, (N, ...) from (N / count, ...); bool too."""
        plain = part.detach().contiguous()
        sent = plain.to(torch.uint8) if plain.dtype == torch.bool else plain
        found = [torch.empty_like(sent) for _ in range(self.count)]
        with _peers_named():
            distributed.all_gather(found, sent)
        return torch.cat(found).to(plain.dtype)

    def most(self, value: int) -> int:
        """The largest of all processes' numbers."""
        values = torch.tensor([value])
        with _peers_named():
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)

    def roots(self, value: int) -> int:
        """The number that the root has."""
        values = torch.tensor([value])
        with _peers_named():
            distributed.broadcast(values, 0)
        return int(values)

    def check_alike(self, value: int, what: str) -> None:
        """Refuses to go on where the processes do not start from one state.

        Raises:
            UsageError: names ``what`` differs.
        """
        if self.most(value) != value or self.most(-value) != -value:
            raise UsageError(
                f"process {self.rank} of {self.count}: {what} is not that of the others"
            )


def sum_together(ranks: Ranks, tensors: Sequence[Tensor]) -> None:
    """Adds up many tensors over all processes, in place, some megabytes at a time."""
    bucket: list[Tensor] = []
    for i, tensor in enumerate(tensors):
        bucket.append(tensor)
        if i + 1 == len(tensors) or sum(map(torch.numel, bucket)) >= _BUCKET:
            flat = torch.cat([one.reshape(-1) for one in bucket])
            ranks.sum(flat)
            for one, values in zip(
                bucket, torch.split(flat, [*map(torch.numel, bucket)]), strict=True
            ):
                one.copy_(values.view_as(one))
            bucket = []


@contextlib.contextmanager
def _peers_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise PeerError(f"another process of the training has ended: {first}") from error


def is_one_of_several() -> bool:
    """Whether torchrun, or what speaks as it does, started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined() -> Iterator[Ranks | None]:
    """Meets the other processes, and leaves them at the end; None where there are none.

    Raises:
        PeerError: the others are not there.
        UsageError: the environment is not torchrun's.
    """
    if not is_one_of_several():
        yield None
        return
    if not distributed.is_available():
        raise UsageError("this torch was built without torch.distributed; train in one process")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=_PATIENCE)
    except ValueError as error:
        raise UsageError(f"start the processes with torchrun: {error}") from error
    except RuntimeError as error:
        raise PeerError(f"the other processes cannot be met: {error}") from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
        with _peers_named():
            distributed.barrier()  # torch 2.4 may wait for ever to leave one that has left already
    finally:
        distributed.destroy_process_group()
