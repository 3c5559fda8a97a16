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
from caffe_port.layers.dropout import Dropout
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
        config.recompile_limit = max(config.recompile_limit, 256)
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
        for part in _even_parts(list(row)):
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


def _even_parts(row: list[Step]) -> Iterator[list[Step]]:
    """About sqrt(n) parts whose blobs are about as large."""
    sizes = [sum(math.prod(shape) for shape in step.layer.top_shapes) for step in row]
    most, part, size = sum(sizes) / max(1, round(math.sqrt(len(row)))), [], 0
    for step, own in zip(row, sizes, strict=True):
        part.append(step)
        size += own
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part
