"""Makes a failing case small: fewer layers, smaller shapes, fewer options, the same failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from caffe_port.errors import CaffePortError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.text import is_repeated
from caffe_port.spec import NetSpec
from tools.differential.cases import Case
from tools.differential.drafts import Draft, DraftLayer, spec_of
from tools.differential.solvers import SolverDraft

MAX_TRIES = 150
_KEPT = ("name", "type", "bottom", "top", "input_param")
_SOLVER_KEPT = ("net", "snapshot_prefix", "solver_mode", "base_lr", "lr_policy", "max_iter",
                "type", "random_seed")  # fmt: skip


def shrink(case: Case, fails: Callable[[Case], bool], tries: int = MAX_TRIES) -> Case:
    """The smallest case found that fails as this one does.

    Args:
        case: it fails.
        fails: whether a case fails in the same way.
        tries: largest number of calls of ``fails``.
    """
    left = tries
    found = True
    while found and left > 0:
        found = False
        for smaller in _steps(case):
            left -= 1
            if fails(smaller):
                case, found = smaller, True
                break
            if left <= 0:
                break
    return case


def _steps(case: Case) -> Iterator[Case]:
    """Cases that are one step smaller, the largest steps first."""
    draft = case.draft
    yield from map(case.with_draft, _without_layers(draft, case.phase))
    if case.solver is not None:
        yield from (replace(case, solver=solver) for solver in _smaller_solvers(case.solver))
    if case.backward and case.kind in ("layer", "net"):
        yield replace(case, backward=False)
    yield from map(case.with_draft, _smaller_inputs(draft))
    yield from map(case.with_draft, _without_fields(draft))
    yield from map(case.with_draft, _smaller_numbers(draft))
    if draft.force_backward:
        yield case.with_draft(replace(draft, force_backward=False))
    if case.phase == "TRAIN" and case.kind != "solver":
        yield replace(case, phase="TEST")
    if case.old_text:
        yield replace(case, old_text=False)


def _without_layers(draft: Draft, phase: str) -> Iterator[Draft]:
    """Without the layers from one on; without one layer, whose tops become inputs or its bottom."""
    layers = draft.layers
    for count in range(1, len(layers)):
        if not layers[count - 1].is_input:
            yield _tidy(replace(draft, layers=layers[:count]))
    shapes = _shapes(draft, phase)
    for index, layer in enumerate(layers):
        if layer.is_input or sum(not x.is_input for x in layers) == 1:
            continue
        rest = layers[:index] + layers[index + 1 :]
        yield _tidy(replace(draft, layers=rest))
        if len(layer.message.bottom) == len(layer.message.top) == 1:
            yield _tidy(_reading(draft, rest, layer.message.top[0], layer.message.bottom[0]))
        if shapes and all(top in shapes for top in layer.message.top):
            inputs = [_input(top, shapes[top]) for top in layer.message.top
                      if top not in layer.message.bottom]  # fmt: skip
            yield _tidy(replace(draft, layers=(*layers[:index], *inputs, *layers[index + 1 :])))


def _reading(draft: Draft, layers: tuple[DraftLayer, ...], old: str, new: str) -> Draft:
    """Replaces one blob by another in all readers."""
    changed = []
    for before in layers:
        layer, message = before.changed()
        for names in (message.bottom, message.top):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        changed.append(layer)
    return replace(draft, layers=tuple(changed))


def _tidy(draft: Draft) -> Draft:
    """Without inputs that nothing reads."""
    read = {name for layer in draft.layers for name in layer.message.bottom}
    kept = [x for x in draft.layers if not x.is_input or not read.isdisjoint(x.message.top)]
    return replace(draft, layers=tuple(kept))


def _shapes(draft: Draft, phase: str) -> dict[str, tuple[int, ...]]:
    try:
        spec: NetSpec = spec_of(draft.text(), phase)
    except (CaffePortError, Exception):
        return {}
    return dict(spec.shapes)


def _input(name: str, shape: tuple[int, ...]) -> DraftLayer:
    message = caffe_pb2.LayerParameter(name=name, type="Input", top=[name])
    message.input_param.shape.add().dim.extend(shape)
    return DraftLayer(message)


def _smaller_inputs(draft: Draft) -> Iterator[Draft]:
    """Axes of length 1, all axes of that length at once or one alone, or one less."""
    sizes = {d for x in draft.layers if x.is_input for d in x.message.input_param.shape[0].dim}
    for size in sorted(sizes - {0, 1}, reverse=True):
        for smaller in (1, size // 2, size - 1):
            if 0 < smaller < size:
                yield _resized(draft, lambda _, d, size=size, to=smaller: to if d == size else d)
    for index, layer in enumerate(draft.layers):
        if layer.is_input:
            for axis, size in enumerate(layer.message.input_param.shape[0].dim):
                for smaller in {1, size // 2, size - 1}:
                    if 0 < smaller < size:
                        where = (index, axis)
                        yield _resized(
                            draft, lambda at, d, where=where, to=smaller: to if at == where else d
                        )


def _resized(draft: Draft, size: Callable[[tuple[int, int], int], int]) -> Draft:
    layers = []
    for index, before in enumerate(draft.layers):
        layer, message = before.changed()
        if layer.is_input:
            dims = message.input_param.shape[0].dim
            dims[:] = [size((index, axis), dim) for axis, dim in enumerate(dims)]
        layers.append(layer)
    return replace(draft, layers=tuple(layers))


def _changed(draft: Draft, index: int, change: Callable[[Any], None]) -> Draft:
    layer, message = draft.layers[index].changed()
    change(message)
    return replace(draft, layers=(*draft.layers[:index], layer, *draft.layers[index + 1 :]))


def _without_fields(draft: Draft) -> Iterator[Draft]:
    """Without one field of a layer, or one of a block of options."""
    for index, layer in enumerate(draft.layers):
        for field, value in layer.message.ListFields():
            if field.name in _KEPT:
                continue
            yield _changed(draft, index, _clearing(field.name))
            if isinstance(value, Message):
                for inner, _ in value.ListFields():
                    yield _changed(draft, index, _clearing(inner.name, field.name))
        for block in layer.extra:
            rest = {name: fields for name, fields in layer.extra.items() if name != block}
            bare = replace(layer, extra=rest)
            yield replace(draft, layers=(*draft.layers[:index], bare, *draft.layers[index + 1 :]))


def _clearing(name: str, block: str = "") -> Callable[[Any], None]:
    return lambda message: (getattr(message, block) if block else message).ClearField(name)


def _smaller_numbers(draft: Draft) -> Iterator[Draft]:
    """With one whole number of the options smaller, or one of several values left out."""
    for index, layer in enumerate(draft.layers):
        if layer.is_input:
            continue
        for field, block in layer.message.ListFields():
            if not isinstance(block, Message):
                continue
            for inner, value in block.ListFields():
                for change in _number_changes(field.name, inner, value):
                    yield _changed(draft, index, change)


def _number_changes(block: str, field: Any, value: Any) -> Iterator[Callable[[Any], None]]:
    if is_repeated(field):
        if len(value) > 1 and field.message_type is None:
            yield lambda m: getattr(getattr(m, block), field.name).pop()
    elif isinstance(value, int) and not isinstance(value, bool) and field.enum_type is None:
        for smaller in sorted({1, value // 2, value - 1}):
            if 0 < smaller < value:
                yield lambda m, to=smaller: setattr(getattr(m, block), field.name, to)


def _smaller_solvers(solver: SolverDraft) -> Iterator[SolverDraft]:
    if solver.steps > 1:
        yield replace(solver, steps=1)
    if solver.batches > 1:
        yield replace(solver, batches=1)
    if solver.filled:
        yield replace(solver, filled=False)
    for field, _ in solver.message.ListFields():
        if field.name not in _SOLVER_KEPT:
            message = caffe_pb2.SolverParameter()
            message.CopyFrom(solver.message)
            message.ClearField(field.name)
            yield replace(solver, message=message)
    for name, plain in (("type", "SGD"), ("lr_policy", "fixed")):
        if getattr(solver.message, name) != plain:
            message = caffe_pb2.SolverParameter()
            message.CopyFrom(solver.message)
            setattr(message, name, plain)
            yield replace(solver, message=message)
