"""Steps in a row as one function: to be computed again for backward, or compiled."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from caffe_port.data.rng import CaffeRandom
from caffe_port.layers.neurons import Dropout
from caffe_port.solver.steps import Step, Tensors

_Context = contextlib.AbstractContextManager[None]
_Function = Callable[..., tuple[Tensor, ...]]
# draw or compute outside of torch
_NOT_COMPILED = frozenset({"DenseCRF", "DomainTransform", "AdaptiveBiasChannel", "MatRead"})


class Segment:
    """Some steps.

    Args:
        steps: in a row; their ``free`` is set.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        freed = {name for step in steps for name in step.free}
        written: dict[str, None] = {}
        read: dict[str, None] = {}
        for step in steps:
            read.update({name: None for name in step.layer.bottoms if name not in written})
            written.update(dict.fromkeys(step.layer.tops))
        self.inputs, self.outputs = (
            tuple(read),
            tuple(name for name in written if name not in freed),
        )
        self._freed = freed
        self.function: _Function = self.values

    def values(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Computes the outputs."""
        tensors: Tensors = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            step(tensors)
        return tuple(tensors[name] for name in self.outputs)

    def __call__(self, tensors: Tensors) -> None:
        found = self.function(*[tensors[name] for name in self.inputs])
        tensors.update(zip(self.outputs, found, strict=True))
        for name in self._freed:
            tensors.pop(name, None)

    def checkpoint(self) -> None:
        """Keeps only the inputs for backward and computes all else again there."""
        run = self.function

        def contexts() -> tuple[_Context, _Context]:
            return contextlib.nullcontext(), self._again([(r, r.state()) for r in self._randoms()])

        def kept(*inputs: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = checkpoint(
                run, *inputs, use_reentrant=False, context_fn=contexts
            )
            return found

        self.function = kept

    def compile(self) -> None:
        """Compiles the steps together."""
        from torch._dynamo import config

        # the default is for functions that change; here each segment is one more of the same
        # (recompile_limit by its first name, which torch 2.4 knows too)
        config.cache_size_limit = max(config.cache_size_limit, 256)
        self.function = torch.compile(self.values, dynamic=False)

    def _randoms(self) -> list[CaffeRandom]:
        modules = [step.module for step in self.steps]
        found = [m.random for m in modules if isinstance(m, Dropout) and m.random is not None]
        return list({id(random): random for random in found}.values())

    @contextlib.contextmanager
    def _again(self, states: list[tuple[CaffeRandom, object]]) -> Iterator[None]:
        """Draws what was drawn before; statistics that a forward pass adds up stay as they are."""
        present = [(random, random.state()) for random, _ in states]
        summed = [
            (tensor, tensor.detach().clone())
            for step in self.steps
            if step.layer.op.frozen_params
            for tensor in step.module.parameters()
        ]
        _set(states)
        try:
            yield
        finally:
            _set(present)
            for tensor, values in summed:
                tensor.detach().copy_(values)


def _set(states: Sequence[tuple[CaffeRandom, object]]) -> None:
    for random, state in states:
        random.set_state(*state)  # type: ignore[misc]


def checkpointed(steps: Sequence[Step]) -> list[Step | Segment]:
    """Steps of which long rows are computed again for backward."""
    made: list[Step | Segment] = []
    for fits, row in itertools.groupby(steps, _is_plain):
        if not fits:
            made += row
            continue
        for part in _parts(list(row)):
            segment = Segment(part)
            if any(step.layer.needs_backward for step in part):
                segment.checkpoint()
            made.append(segment)
    return made


def compiled(steps: Sequence[Step]) -> list[Step | Segment]:
    """Steps of which rows are compiled."""
    made: list[Step | Segment] = []
    for fits, row in itertools.groupby(steps, _can_be_compiled):
        if fits:
            made.append(Segment(list(row)))
            made[-1].compile()  # type: ignore[union-attr]
        else:
            made += row
    return made


def _is_plain(step: Step) -> bool:
    """Whether it computes on this process alone and counts nothing."""
    return type(step) is Step and not step.is_exact


def _can_be_compiled(step: Step) -> bool:
    drawn = isinstance(step.module, Dropout) and step.module.random is not None
    return _is_plain(step) and not drawn and step.layer.type not in _NOT_COMPILED


def _parts(row: Sequence[Step]) -> list[Sequence[Step]]:
    """Cut where few blobs are alive, so that these and the largest part take the least memory."""
    sizes = [0 if _is_alias(step) else _size(step) for step in row]
    alive = _alive(row)
    most = max(2, 2 * round(math.sqrt(len(row))))
    choices = [_cuts(sizes, alive, sum(sizes) / count) for count in range(1, most)]
    cuts = min(choices, key=lambda chosen: _cost(sizes, alive, chosen))
    ends = [0, *cuts, len(row)]
    return [row[begin:end] for begin, end in itertools.pairwise(ends)]


def _size(step: Step) -> int:
    return sum(math.prod(shape) for shape in step.layer.top_shapes)


def _is_alias(step: Step) -> bool:
    """Whether its tops are its bottoms' memory."""
    return step.layer.type == "Split"


def _alive(row: Sequence[Step]) -> list[int]:
    """Per step, how many numbers made before it are still needed by it or later ones."""
    memory: dict[str, tuple[int, str]] = {}  # blob -> its size and whose memory it is
    found = []
    for step in row:
        found.append(sum({where: size for size, where in memory.values()}.values()))
        for top, shape in zip(step.layer.tops, step.layer.top_shapes, strict=True):
            own = (math.prod(shape), f"{top} of {step.layer.name}")
            memory[top] = memory.get(step.layer.bottoms[0], own) if _is_alias(step) else own
        for name in step.free:
            memory.pop(name, None)
    return found


def _cuts(sizes: Sequence[int], alive: Sequence[int], wanted: float) -> list[int]:
    """Places that leave about so many numbers to each part, where the fewest are alive."""
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
    """Numbers kept at the cuts, and those of the largest part."""
    ends = [0, *cuts, len(sizes)]
    parts = [sum(sizes[begin:end]) for begin, end in itertools.pairwise(ends)]
    return sum(alive[cut] for cut in cuts) + max(parts)
