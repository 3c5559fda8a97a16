"""Forward and backward of a whole net, in one graph or in segments that fit into memory."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from caffe_port.data.rng import CaffeRandom
from caffe_port.layers.normalization import assigns_diff
from caffe_port.layers.python_layer import Python
from caffe_port.plan import run_steps
from caffe_port.solver.modes import LossScale, Modes
from caffe_port.solver.steps import Step, Tensors, own_params, set_frees

if TYPE_CHECKING:
    from caffe_port.live.net import Net
    from caffe_port.ranks import BatchRanks


# Steps in a row as one function: to be computed again for backward, or compiled.

_Context = contextlib.AbstractContextManager[None]
_Function = Callable[..., tuple[Tensor, ...]]


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
            read.update({name: None for name in step.bottoms if name not in written})
            written.update(dict.fromkeys(step.tops))
        self.bottoms = tuple(read)
        self.tops = tuple(name for name in written if name not in freed)
        self.free = tuple(name for name in read if name in freed)
        self.function: _Function = self.values

    def values(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Computes the tops, step by step."""
        tensors: Tensors = dict(zip(self.bottoms, bottoms, strict=True))
        run_steps(self.steps, tensors, Step.compute)
        return tuple(tensors[name] for name in self.tops)

    def compute(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Computes the tops, by the function that was chosen."""
        return self.function(*bottoms)

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
        return list({id(m.random): m.random for m in modules if m.random is not None}.values())

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
    drawn = step.module.random is not None
    return _is_plain(step) and not drawn and not step.layer.op.outside_torch


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


# Forward and backward through a whole net at once, without filling the blobs in between.
#
# pycaffe's own passes copy every layer's output into a blob that scripts may look at. A training
# that nobody looks into needs only the outputs and the parameters' diffs, which are the same ones.


def why_not_fused(net: Net) -> str:
    """Why a net has to run layer by layer on its blobs, as pycaffe runs it; '' if it need not."""
    if net.inputs:
        return f"the input '{net.inputs[0]}' is filled from outside"
    if any(net._callbacks.values()):
        return "callbacks or debug_info read its blobs"
    if any(blobs.replaced for blobs in net._own_params.values()):
        return "its parameters were replaced by other blobs"
    modules = net._net.modules()
    python = next((module for module in modules if isinstance(module, Python)), None)
    if python is not None:
        return f"layer '{python.spec.name}' (Python) works on its blobs"
    if effects := net._net.spec.side_effects:
        return str(effects[0])
    return ""


class WholePass:
    """Runs a net and adds to its parameters' diffs.

    Args:
        net: nobody may look into it.
        ranks: the processes that share its batches; None where this is the only one.
        modes: how it computes.
        device: where the parameters are while it runs.
        scale: what losses are multiplied by for backward; None leaves them.
    Raises:
        UsageError: a batch that cannot be shared evenly.
    """

    def __init__(
        self,
        net: Net,
        ranks: BatchRanks | None = None,
        modes: Modes | None = None,
        device: torch.device | None = None,
        scale: LossScale | None = None,
    ) -> None:
        self._net, self._ranks = net, ranks
        self._modes, self._device = modes or Modes(), device or torch.device("cpu")
        self._scale = scale
        self._steps, self._parted = self._make_steps()
        weighted = [top for step in self._steps for top, _ in step.losses]
        set_frees(self._steps, [*net.outputs, *weighted])
        self._rows: Sequence[Step | Segment] = self._steps
        if self._modes.checkpoint:
            self._rows = checkpointed(self._steps)
        elif self._modes.compile:
            self._rows = compiled(self._steps)

    def _make_steps(self) -> tuple[list[Step], list[str]]:
        """The steps, and the blobs of which this process has only a part."""
        net, parted = self._net._net, list[str]()
        if self._ranks is None:
            steps = [Step(net, layer) for layer in net.spec.layers]
        else:
            from caffe_port.solver.distributed import make_steps

            steps, parted = make_steps(net, self._ranks)
        for step in steps:
            if step.layer.op.kind == "source":
                step.place = self._place
        return steps, parted

    def _place(self, values: Tensor) -> Tensor:
        if self._modes.channels_last and values.dim() == 4:
            return values.to(self._device, memory_format=torch.channels_last)
        return values.to(self._device)

    def clear(self) -> None:
        """Sets all parameters' diffs to 0, by leaving them to the next pass to make."""
        for param in self._net._net.parameters():
            param.grad = None
        for blobs in self._net._own_params.values():
            for blob in blobs:
                blob.drop_diff()

    def forward_backward(self) -> float:
        """Runs the net, adds to its parameters' diffs, and fills its output blobs.

        Returns:
            The weighted loss.
        """
        # compiled layers add their diffs up as autograd does
        shared = {} if self._modes.compile else dict(own_params(self._net._net))
        for step in self._steps:
            step.own = dict(shared.get(step.layer.name, {}))
            layer = step.layer
            if layer.type == "Parameter":  # its diff is its top's, which is written anew
                for param in step.module.parameters():
                    param.grad = None
            elif layer.bottoms and assigns_diff(layer, layer.bottom_shapes[0]):
                step.module.get_parameter("weight").grad = None
        losses, total = self._forward()
        learned = [loss for loss in losses if loss.requires_grad]
        if self._scale is not None:
            learned = [loss * self._scale.scale for loss in learned]
        if learned:
            torch.autograd.backward(learned)
        self._hand_over()
        return total

    def _forward(self) -> tuple[list[Tensor], float]:
        tensors: Tensors = {}
        losses: list[Tensor] = []
        total = 0.0
        dtype = self._modes.dtype
        with torch.autocast(self._device.type, dtype, enabled=dtype is not None):
            run_steps(self._rows, tensors, lambda row, bottoms: row.compute(bottoms))
        for step in self._steps:
            for top, weight in step.losses:
                losses.append(weight * tensors[top].sum())
                # in double: a float sum of many numbers depends on how it is split up
                total += weight * float(tensors[top].detach().sum(dtype=torch.float64))
        for name in self._net.outputs:
            values = tensors[name]
            if self._ranks is not None and name in self._parted:
                values = self._ranks.gather(values)
            self._net.blobs[name].assign(values.float() if dtype else values)
        return losses, total

    def _hand_over(self) -> None:
        """Makes gradients in main memory the diffs of the blobs, without a copy."""
        for layer, blobs in self._net._own_params.items():
            for param, blob in zip(self._net._net.layer_params(layer), blobs, strict=True):
                if param.grad is not None:
                    param.grad = param.grad.contiguous()
                    if param.grad.device.type == "cpu":
                        blob.take_diff(param.grad)
