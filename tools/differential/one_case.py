"""Runs a case on both sides and compares the results."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np

from caffe_port.errors import CaffePortError, LayerError
from caffe_port.spec import NetSpec
from tools.differential import outcomes
from tools.differential.accepted import accepted_as
from tools.differential.cases import Case
from tools.differential.drafts import spec_of
from tools.differential.exchanges import Exchange, comparable, one_pass
from tools.differential.files_case import exchange_files
from tools.differential.old_text import as_v1
from tools.differential.outcomes import Finding, Outcome
from tools.differential.sides import Answer, CaffeSide
from tools.differential.solver_case import train

_HUGE = 1e15  # beyond it sums of squares leave float32


def net_text(case: Case) -> str:
    """The net as both sides read it."""
    old = as_v1(case.draft) if case.old_text else None
    return case.draft.text() if old is None else old


def run_case(caffe: CaffeSide, case: Case, work: Path) -> Finding:
    """Runs a case on both sides.

    Args:
        caffe: the other side.
        case: the case.
        work: a folder for the recording that is compared; its content is replaced.
    """
    text = net_text(case)
    try:
        spec = spec_of(text, case.phase)
    except CaffePortError as error:
        blamed = error.type if isinstance(error, LayerError) else ""
        return _without_spec(caffe, case, text, Answer("refused", str(error)), blamed)
    except Exception as error:  # a mistake of the port
        mine = Answer("crashed", f"{type(error).__name__}: {error}")
        return _without_spec(caffe, case, text, mine, case.type)
    try:
        exchange = _exchange(caffe, case, text, spec, work)
    except Exception as error:  # of the port's, after both sides have answered
        message = f"{type(error).__name__}: {error} ({_place(error)})"
        exchange = Exchange(Answer("crashed", message), Answer("ok"), {})
    outcome = _outcome(case, exchange, spec)
    outcome = replace(outcome, accepted=accepted_as(outcome, spec))
    answer = comparable(spec, exchange.theirs.arrays)
    log = exchange.theirs.header.get("log", "")
    return Finding(outcome, text, exchange.given, answer, log)


def _exchange(caffe: CaffeSide, case: Case, text: str, spec: NetSpec, work: Path) -> Exchange:
    if case.kind == "solver":
        return train(caffe, case, text, spec)
    if case.kind == "files":
        return exchange_files(caffe, case, text, spec, work)
    return one_pass(caffe, case, text, spec, work)


def _place(error: BaseException) -> str:
    """File and line where an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def is_wild(finding: Finding) -> bool:
    """Whether numbers left the range where they can be compared; another draw is worth more."""
    return any(
        not np.isfinite(values).all() or float(np.abs(values).max(initial=0.0)) > _HUGE
        for name, values in finding.answer.items()
        if name.startswith(("data/", "diff/"))
    )


def _without_spec(caffe: CaffeSide, case: Case, text: str, mine: Answer, blamed: str) -> Finding:
    """The port refuses the net: whether Caffe does so too, on inputs of zeros."""
    request = {"do": "net", "net": text, "phase": case.phase, "seed": case.seed}
    theirs = caffe.ask(request, {})
    outcome = replace(_outcome(case, Exchange(mine, theirs, {}), None), blamed=blamed)
    outcome = replace(outcome, accepted=accepted_as(outcome, None))
    return Finding(outcome, text, {}, theirs.arrays, theirs.header.get("log", ""))


def _outcome(case: Case, exchange: Exchange, spec: NetSpec | None) -> Outcome:
    mine, theirs, found = exchange.mine, exchange.theirs, exchange.difference
    outcome = Outcome(case.index, case.kind, case.type, outcomes.AGREED, tuple(case.draft.types()))
    if mine.ended in ("crashed", "late"):
        status, message = outcomes.PORT_CRASHES, mine.message
    elif mine.ended == "refused" and theirs.ended == "ok":
        status, message = outcomes.PORT_REFUSES, mine.message
    elif mine.ended == "refused":
        status = outcomes.BOTH_REFUSE
        message = f"port: {mine.message}; Caffe: {theirs.message}"
    elif theirs.ended != "ok":
        refused = theirs.ended == "refused"
        status = outcomes.CAFFE_REFUSES if refused else outcomes.CAFFE_CRASHES
        message = theirs.message
    elif found is not None:
        status, message = outcomes.DIFFER, found.message
        outcome = replace(
            outcome, blamed=found.blamed, part=found.part, live_agrees=found.live_agrees
        )
    else:
        status = outcomes.UNDEFINED if exchange.undefined else outcomes.AGREED
        message = ""
    return replace(outcome, status=status, message=message)
