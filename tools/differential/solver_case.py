"""Cases of the kind 'solver': the same training on both sides, and each resumes the other's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe_port
from caffe_port.spec import NetSpec
from tools.differential.cases import Case
from tools.differential.comparing import conditioned_difference, is_chaotic
from tools.differential.drafts import input_values, is_free
from tools.differential.exchanges import (
    Difference,
    Exchange,
    built_difference,
    draws,
    given_arrays,
)
from tools.differential.sides import Answer, Arrays, CaffeSide, ask_port
from tools.differential.solvers import SolverDraft

_LAST_BITS = 2.0**-20  # the relative change of numbers that shows how far rounding can travel
_RUNS = 3  # with changed weights
_NORMALIZING = ("AdaDelta", "AdaGrad", "Adam", "RMSProp")  # divide a diff by its own size
_ROUNDED = 1e-4  # of a diff: where rounding makes more, dividing by its size shows nothing else


def train(caffe: CaffeSide, case: Case, text: str, spec: NetSpec) -> Exchange:
    """Steps, a snapshot, steps; then each side resumes from the other's snapshot."""
    solver = case.solver
    assert solver is not None
    given = _given(spec, case.seed, solver)
    request = _request(case, text, solver, [*_steps(solver, 0), ["snapshot"], *_steps(solver, 1)])
    mine = ask_port(request, given, caffe.timeout)
    exchange = Exchange(mine, caffe.ask(request, given), given)
    if not exchange.answered:
        return exchange
    theirs = exchange.theirs
    exchange.difference = built_difference(mine, theirs) or _start(mine, theirs)
    if exchange.difference is None:
        changed = [_moved(spec, solver.batches, given, mine, run) for run in range(_RUNS)]
        moved = [ask_port(request, arrays, caffe.timeout) for arrays in changed]
        exchange.difference = _weights(mine, theirs, moved)
        if exchange.difference is not None and solver.message.type in _NORMALIZING:
            if not draws(spec) and rounds_a_diff_away(text, given, mine):
                exchange.difference = None
            return exchange
        if exchange.difference is None and theirs.part("file") and not draws(spec):
            exchange.difference = _resumed(caffe, case, text, exchange, moved)
    return exchange


def rounds_a_diff_away(text: str, given: Arrays, mine: Answer) -> bool:
    """Whether a parameter's first diff is 0 but for rounding, or nearly so.

    Such is the bias of a layer before a softmax over all that it is added to. A solver that divides
    a diff by its size moves the parameter by the sign of rounding errors.

    Args:
        text: of the net.
        given: inputs, by batch.
        mine: has the weights before the first step.
    """
    inputs = {name.removeprefix("input/0/"): values for name, values in given.items()
              if name.startswith("input/0/")}  # fmt: skip
    exact, plain = (_first_diffs(text, inputs, mine, dtype) for dtype in (np.float64, np.float32))
    errors = [(float(np.abs(exact[key] - plain[key]).max(initial=0.0)),
               float(np.abs(exact[key]).max(initial=0.0))) for key in exact]  # fmt: skip
    return any(error > _ROUNDED * peak for error, peak in errors)


def _first_diffs(text: str, inputs: Arrays, mine: Answer, dtype: type) -> Arrays:
    """The parameters' diffs of one pass of the port's Net: '<layer>/<i>' -> values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.prototxt")
        path.write_text(text, encoding="utf-8")
        net = caffe_port.load(path, phase="TRAIN")
    net = net.double() if dtype is np.float64 else net
    params = {f"{layer.name}/{index}": param for layer in net.spec.layers
              for index, param in enumerate(net.layer_params(layer.name))}  # fmt: skip
    with torch.no_grad():
        for name, values in mine.part("start").items():
            params[name].copy_(torch.from_numpy(values).reshape(params[name].shape))
    blobs = net({name: np.asarray(values, dtype) for name, values in inputs.items()}, keep="all")
    tops = [pair for layer in net.spec.layers
            for pair in zip(layer.tops, layer.loss_weights, strict=True) if pair[1]]  # fmt: skip
    losses = [weight * blobs[top].sum() for top, weight in tops if blobs[top].requires_grad]
    if losses:
        torch.stack(losses).sum().backward()
    return {name: param.grad.numpy() for name, param in params.items() if param.grad is not None}


def _request(
    case: Case, text: str, solver: SolverDraft, actions: list[list[object]]
) -> dict[str, object]:
    return {"do": "solver", "net": text, "solver": solver.text(), "seed": case.seed,
            "actions": actions}  # fmt: skip


def _steps(solver: SolverDraft, half: int) -> list[list[object]]:
    """The first or the second half of the steps, each with the number of its batch."""
    first = half * solver.steps
    return [["step", i % solver.batches] for i in range(first, first + solver.steps)]


def _given(spec: NetSpec, seed: int, solver: SolverDraft) -> Arrays:
    given = given_arrays(spec, seed)
    inputs = [name for name in given if name.startswith("input/")]
    for name in inputs:
        del given[name]
    for batch in range(solver.batches):
        for blob, values in input_values(spec, seed + batch).items():
            given[f"input/{batch}/{blob}"] = values
    if solver.filled:
        given = {name: value for name, value in given.items() if not name.startswith("param/")}
    return given


def _start(mine: Answer, theirs: Answer) -> Difference | None:
    """The weights before the first step: what the fillers drew, where nothing else was set."""
    for name, caffe in theirs.part("start").items():
        values = mine.part("start")[name].reshape(caffe.shape)
        error = float(np.abs(values - caffe).max(initial=0.0))
        if error > 1e-6 * float(np.abs(caffe).max(initial=0.0)):
            return Difference("", "start", f"weights '{name}' at the start: off by {error:.3g}")
    return None


def _moved(spec: NetSpec, batches: int, given: Arrays, mine: Answer, run: int) -> Arrays:
    """The same with other last bits of the weights and of inputs that may be any number.

    A diff that is 0 but for rounding shows in this: AdaGrad and others divide it by its own size.
    """
    generator = np.random.RandomState(run)
    start = {f"param/{name}": values for name, values in mine.part("start").items()}
    free = {f"input/{batch}/{blob}" for batch in range(batches) for blob in spec.inputs
            if is_free(spec, blob)}  # fmt: skip
    moved = dict(given)
    for name, values in {**start, **{name: given[name] for name in sorted(free)}}.items():
        signs = generator.choice([-1.0, 1.0], values.shape)
        moved[name] = np.asarray(
            values + _LAST_BITS * signs * np.maximum(np.abs(values), 0.1), np.float32
        )
    return moved


def _weights(mine: Answer, theirs: Answer, moved: list[Answer]) -> Difference | None:
    """The first weights or outputs that differ, as far as they can be compared."""
    places = [int(stage.split("/")[0]) for stage in mine.part("weights")]
    for place in sorted(set(places)):
        ours, caffe = _at(mine, place), _at(theirs, place)
        spread = [_at(run, place) for run in moved]
        if any(is_chaotic(ours[name], [run[name] for run in spread]) for name in ours):
            return None
        for name, values in caffe.items():
            flaw = conditioned_difference(ours.get(name), values, [run[name] for run in spread])
            if flaw:
                part = name.partition("/")[0]
                return Difference("", part, f"{name} after action {place}: {flaw}")
    return None


def _at(answer: Answer, place: int) -> dict[str, Any]:
    return {
        f"{part}/{name}": values
        for part in ("weights", "output")
        for name, values in answer.part(f"{part}/{place}").items()
    }


def _resumed(
    caffe: CaffeSide, case: Case, text: str, exchange: Exchange, moved: list[Answer]
) -> Difference | None:
    """Each side goes the second half again, from what the other wrote."""
    solver = case.solver
    assert solver is not None
    mine, theirs = exchange.mine, exchange.theirs
    last = 2 * solver.steps  # the number of the last action of the whole run
    for whose, files in (("Caffe's", theirs.part("file")), ("the port's", mine.part("file"))):
        state = next((name for name in sorted(files) if ".solverstate" in name), None)
        if state is None:
            return Difference("", "snapshot", f"{whose} snapshot has no solver state")
        request = _request(case, text, solver, [["restore", state], *_steps(solver, 1)])
        given = exchange.given | {f"file/{name}": content for name, content in files.items()}
        if whose == "Caffe's":
            again, wanted = ask_port(request, given, caffe.timeout), theirs
        else:
            again, wanted = caffe.ask(request, given), mine
        if again.ended != "ok":
            return Difference("", "resume", f"resuming {whose} snapshot: {again.message}")
        weights = again.part(f"weights/{solver.steps}")
        for name, values in wanted.part(f"weights/{last}").items():
            spread = [run.part(f"weights/{last}")[name] for run in moved]
            if is_chaotic(mine.part(f"weights/{last}")[name], spread):
                return None
            if flaw := conditioned_difference(weights.get(name), values, spread):
                return Difference("", "resume", f"{name}, resumed from {whose} snapshot: {flaw}")
    return None
