"""Faster or smaller ways to train, and what each changes in the numbers."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import UsageError
from caffe_port.plan import run_steps

if TYPE_CHECKING:
    from caffe_port.solver.step import LayerStep

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LOSSES = "losses and weights are close to Caffe's, not its digits"


@dataclass(frozen=True)
class Modes:
    """How a training computes; by default as Caffe does, digit for digit.

    Attributes:
        amp: 'bf16' or 'fp16': products in 16 bits, parameters and losses in 32; fp16 with a loss
            scale.
        channels_last: blobs in memory pixel by pixel, with which convolutions may be faster.
        compile: layers compiled together by torch.compile.
        checkpoint: keeps few blobs for the backward pass and recomputes the others, with the same
            dropout masks: less memory, the same numbers.
    Raises:
        UsageError: another amp, or compile with checkpoint.
    Examples:
        >>> from caffe_port.solver import Modes
        >>> Modes(amp="bf16").dtype
        torch.bfloat16
    """

    amp: str = ""
    channels_last: bool = False
    compile: bool = False
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.amp and self.amp not in _TYPES:
            raise UsageError(f"amp is '{self.amp}'; expected {' or '.join(_TYPES)}")
        if self.compile and self.checkpoint:
            raise UsageError("compile and checkpoint cut a net in different ways; give one of them")

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of products; None for float32."""
        return _TYPES.get(self.amp)

    def remarks(self) -> list[str]:
        """Lines for the log: what each mode changes."""
        found = []
        if self.amp:
            found.append(f"-amp {self.amp}: products in {self.amp}: {_LOSSES}.")
        if self.channels_last:
            found.append(f"-channels_last: other orders of summation: {_LOSSES}.")
        if self.compile:
            found.append(f"-compile: layers are compiled together: {_LOSSES}.")
        if self.checkpoint:
            found.append("-checkpoint: blobs are computed again for backward: the same numbers.")
        return found


class LossScale:
    """Keeps small fp16 diffs above 0: losses are multiplied by a factor, diffs divided by it.

    A step whose diffs are not finite is skipped and halves the factor; 2,000 finite ones in a row
    double it. Source: Micikevicius et al., arXiv:1710.03740; torch.amp.GradScaler's figures.
    """

    def __init__(self) -> None:
        self.scale, self.good = 65536.0, 0

    def unscale(self, diffs: list[Tensor]) -> bool:
        """Divides the diffs, in place.

        Returns:
            Whether they are finite; otherwise the step has to be skipped.
        """
        finite = all(bool(torch.isfinite(diff).all()) for diff in diffs)
        for diff in diffs:
            diff.mul_(1 / self.scale)
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good == 2000:
            self.scale, self.good = self.scale * 2, 0
        return finite

    def state(self) -> list[float]:
        """What the run state file stores."""
        return [self.scale, self.good]

    def set_state(self, state: list[float]) -> None:
        """Restores what ``state`` returned."""
        self.scale, self.good = float(state[0]), int(state[1])


_Context = contextlib.AbstractContextManager[None]
_Function = Callable[..., tuple[Tensor, ...]]


class LayerRow:
    """Some layers in a row, run as one function that is checkpointed or compiled.

    Args:
        steps: in a row; their ``free`` is set.
    Attributes:
        bottoms, tops, free: as of one layer; see ``LayerStep``.
    """

    def __init__(self, steps: Sequence[LayerStep]) -> None:
        self.steps = tuple(steps)
        freed = {name for step in steps for name in step.free}
        written: dict[str, None] = {}
        read: dict[str, None] = {}
        for step in steps:
            read.update({name: None for name in step.bottoms if name not in written})
            written.update(dict.fromkeys(step.tops))
        self.bottoms = tuple(read)
        self.tops = tuple(name for name in written if name not in freed)
        self.free = tuple(name for name in read if name in freed)
        self._function: _Function = self._run

    def compute(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Computes the tops."""
        return self._function(*bottoms)

    def _run(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        tensors = dict(zip(self.bottoms, bottoms, strict=True))
        run_steps(self.steps, tensors, lambda step, values: step.compute(values))
        return tuple(tensors[name] for name in self.tops)

    def checkpoint(self) -> None:
        """Keeps only the bottoms for the backward pass, which recomputes all other blobs."""

        def contexts() -> tuple[_Context, _Context]:
            randoms = {id(s.module.random): s.module.random for s in self.steps}.values()
            states = [(random, random.state()) for random in randoms if random is not None]
            return contextlib.nullcontext(), self._recomputing(states)

        def function(*bottoms: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = checkpoint(
                self._run, *bottoms, use_reentrant=False, context_fn=contexts
            )
            return found

        self._function = function

    def compile(self) -> None:
        """Compiles the layers together."""
        from torch._dynamo import config

        # the limit is meant for one function that is recompiled; here each row is another one
        # (recompile_limit by its older name, which torch 2.4 has too)
        config.cache_size_limit = max(config.cache_size_limit, 256)
        self._function = torch.compile(self._run, dynamic=False)

    @contextlib.contextmanager
    def _recomputing(self, states: list[tuple[CaffeRandom, Any]]) -> Iterator[None]:
        """Repeats the random draws, and restores statistics that forward updates."""
        present = [(random, random.state()) for random, _ in states]
        statistics = [
            (tensor, tensor.detach().clone())
            for step in self.steps
            if step.layer.op.frozen_params
            for tensor in step.module.parameters()
        ]
        _set_states(states)
        try:
            yield
        finally:
            _set_states(present)
            for tensor, values in statistics:
                tensor.detach().copy_(values)


def _set_states(states: Sequence[tuple[CaffeRandom, Any]]) -> None:
    for random, state in states:
        random.set_state(*state)


def checkpointed(steps: Sequence[LayerStep]) -> list[LayerStep | LayerRow]:
    """Joins steps into rows whose blobs are recomputed in the backward pass."""
    made: list[LayerStep | LayerRow] = []
    for repeatable, row in itertools.groupby(steps, lambda step: step.is_repeatable):
        if not repeatable:
            made += row
            continue
        for part in _parts(list(row)):
            made.append(joined := LayerRow(part))
            if any(step.layer.needs_backward for step in part):
                joined.checkpoint()
    return made


def compiled(steps: Sequence[LayerStep]) -> list[LayerStep | LayerRow]:
    """Joins steps into rows that are compiled."""
    made: list[LayerStep | LayerRow] = []
    for fits, row in itertools.groupby(steps, _can_be_compiled):
        if fits:
            made.append(joined := LayerRow(list(row)))
            joined.compile()
        else:
            made += row
    return made


def _can_be_compiled(step: LayerStep) -> bool:
    draws = step.module.random is not None
    return step.is_repeatable and not draws and not step.layer.op.outside_torch


def _parts(row: Sequence[LayerStep]) -> list[Sequence[LayerStep]]:
    """Cuts a row so that the blobs at the cuts and the largest part take the least memory."""
    sizes = [0 if step.layer.type == "Split" else _size(step) for step in row]
    alive = _alive(row)
    most = max(2, 2 * round(math.sqrt(len(row))))
    choices = [_cuts(sizes, alive, sum(sizes) / count) for count in range(1, most)]
    cuts = min(choices, key=lambda chosen: _cost(sizes, alive, chosen))
    ends = [0, *cuts, len(row)]
    return [row[begin:end] for begin, end in itertools.pairwise(ends)]


def _size(step: LayerStep) -> int:
    return sum(math.prod(shape) for shape in step.layer.top_shapes)


def _alive(row: Sequence[LayerStep]) -> list[int]:
    """Per step, the number of elements made before it that it or a later step reads."""
    memory: dict[str, tuple[int, str]] = {}  # blob -> its size, and the blob whose memory it has
    found = []
    for step in row:
        found.append(sum({where: size for size, where in memory.values()}.values()))
        for top, shape in zip(step.layer.tops, step.layer.top_shapes, strict=True):
            own = (math.prod(shape), f"{top} of {step.layer.name}")
            shared = memory.get(step.layer.bottoms[0]) if step.layer.type == "Split" else None
            memory[top] = shared or own
        for name in step.free:
            memory.pop(name, None)
    return found


def _cuts(sizes: Sequence[int], alive: Sequence[int], wanted: float) -> list[int]:
    """Cuts into parts of about ``wanted`` elements, where the fewest elements are alive."""
    done = [0, *itertools.accumulate(sizes)]
    cuts: list[int] = []
    while done[-1] - done[cuts[-1] if cuts else 0] > 1.5 * wanted:
        begin = cuts[-1] if cuts else 0
        goal = done[begin] + wanted
        near = [i for i in range(begin + 1, len(sizes)) if abs(done[i] - goal) <= wanted / 2]
        if not near:
            break
        cuts.append(min(near, key=lambda i: alive[i]))
    return cuts


def _cost(sizes: Sequence[int], alive: Sequence[int], cuts: Sequence[int]) -> int:
    """Elements kept at the cuts, and those of the largest part."""
    ends = [0, *cuts, len(sizes)]
    parts = [sum(sizes[begin:end]) for begin, end in itertools.pairwise(ends)]
    return sum(alive[cut] for cut in cuts) + max(parts)
