"""Runs all cases, in worker processes, and keeps the results so that a run can be resumed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.spec.plugins import import_own
from tools.differential import outcomes
from tools.differential.cases import Case, draw_case
from tools.differential.goldens import write_recording, write_training
from tools.differential.nets import Catalogue, catalogue_of
from tools.differential.one_case import is_wild, run_case
from tools.differential.outcomes import Finding, Outcome
from tools.differential.shrinking import shrink
from tools.differential.sides import CaffeSide

RESULTS = "results.jsonl"
FAILURES = "differences"
_ATTEMPTS = 5  # draws for one case whose numbers leave float32's range


@dataclass(frozen=True)
class Setting:
    """What decides the cases of a run and their results.

    Attributes:
        caffe: the command of the other side.
        seed: of all cases.
        kinds: of cases.
        types: layer types; all without any.
        dialect: of the nets.
        timeout: seconds for one request.
        tries: how often a failing case is run again while it is shrunk.
        imports: Python files with layers of the user's own.
    """

    caffe: str
    seed: int
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    dialect: str
    timeout: float
    tries: int
    imports: tuple[str, ...] = ()

    def same_cases(self, other: dict[str, Any]) -> bool:
        """Whether the results of another run are of the same cases."""
        mine = asdict(self)
        return all(list_of(mine[k]) == list_of(other.get(k)) for k in ("seed", "kinds", "types"))


def list_of(value: object) -> object:
    """A tuple as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


class Results:
    """The outcomes of a run so far, one line each in ``results.jsonl``.

    Args:
        folder: of the run; made where it is missing.
        setting: of the run.
        about: versions of Caffe and the like, kept with the results.
        retry: forget the differences, so that their cases run again.
    Raises:
        UsageError: the folder has the results of another run.
    """

    def __init__(
        self, folder: Path, setting: Setting, about: dict[str, Any], retry: bool = False
    ) -> None:
        self.path = folder / RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        self.outcomes: dict[int, Outcome] = {}
        head = {"setting": asdict(setting), "about": about}
        if self.path.exists():
            lines = [json.loads(line) for line in _whole_lines(self.path)]
            if not lines or not setting.same_cases(lines[0]["setting"]):
                raise UsageError(
                    f"{self.path} has the results of another run (seed, kinds or types differ); "
                    "choose another folder with -o"
                )
            found = map(Outcome.from_json, lines[1:])
            self.outcomes = {x.index: x for x in found if x.good or not retry}
        text = "".join(f"{json.dumps(x)}\n" for x in (head, *map(Outcome.as_json, self)))
        self.path.write_text(text)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes[index] for index in sorted(self.outcomes))

    def add(self, outcome: Outcome) -> None:
        """Keeps one more."""
        self.outcomes[outcome.index] = outcome
        with self.path.open("a") as stream:
            stream.write(json.dumps(outcome.as_json()) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without a last one that was not finished."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def run(
    setting: Setting, results: Results, count: int, jobs: int, shown: Callable[[Outcome], None]
) -> None:
    """Carries out the cases that have no result yet.

    Args:
        setting: of the run.
        results: gets every outcome.
        count: cases of the run.
        jobs: worker processes; 0 is this process alone, which ends where the port ends it.
        shown: called with every outcome.
    """
    waiting = [index for index in range(count) if index not in results.outcomes][::-1]
    folder = results.path.parent / FAILURES

    def took(outcome: Outcome) -> None:
        results.add(outcome)
        shown(outcome)

    if not jobs:
        with _case_by_number(setting, folder) as outcome_by_number:
            while waiting:
                took(outcome_by_number(waiting.pop()))
        return
    workers = [_Worker(setting, folder) for _ in range(min(jobs, len(waiting)))]
    try:
        _serve(workers, waiting, took)
    finally:
        for worker in workers:
            worker.stop()


def _serve(workers: list[_Worker], waiting: list[int], took: Callable[[Outcome], None]) -> None:
    """Gives each worker the next case when it has done one, until there are none."""
    busy: dict[Connection, _Worker] = {}
    for worker in workers:
        worker.give(waiting.pop())
        busy[worker.pipe] = worker
    while busy:
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection)
            worker = busy.pop(pipe)
            took(worker.take())
            if waiting:
                worker.give(waiting.pop())
                busy[worker.pipe] = worker


class _Worker:
    """A process with a Caffe of its own; when the port ends the process, that is an outcome."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._arguments = (setting, folder)
        self._index = 0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    def give(self, index: int) -> None:
        if not self._process.is_alive():
            self.start()
        self._index = index
        self.pipe.send(index)

    def take(self) -> Outcome:
        try:
            return Outcome.from_json(self.pipe.recv())
        except EOFError:
            self._process.join()
            message = f"the process ended with exit status {self._process.exitcode}"
            return Outcome(self._index, "", "", outcomes.PORT_CRASHES, message=message)

    def stop(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _work(pipe: Connection, setting: Setting, folder: Path) -> None:
    """Runs cases by number in a worker, until the pipe ends."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with _case_by_number(setting, folder) as outcome_by_number:
        while True:
            try:
                index = pipe.recv()
            except EOFError:
                return
            pipe.send(outcome_by_number(index).as_json())


@contextlib.contextmanager
def _case_by_number(setting: Setting, folder: Path) -> Iterator[Callable[[int], Outcome]]:
    """The function that runs the case of a number."""
    os.environ["CAFFE_PORT_DIALECT"] = setting.dialect
    import_own(setting.imports)
    with CaffeSide(setting.caffe, setting.timeout) as caffe, tempfile.TemporaryDirectory() as work:
        about = caffe.about()
        catalogue = catalogue_of(about["schema"], about["types"], setting.types)
        yield lambda index: outcome_of(caffe, catalogue, setting, index, Path(work), folder)


def outcome_of(
    caffe: CaffeSide, catalogue: Catalogue, setting: Setting, index: int, work: Path, folder: Path
) -> Outcome:
    """Draws a case, carries it out, and writes it down small where the sides differ."""
    for attempt in range(_ATTEMPTS):
        case = draw_case(catalogue, setting.seed, index, setting.kinds, attempt)
        finding = run_case(caffe, case, work)
        if not is_wild(finding):
            break
    if finding.outcome.good:
        return finding.outcome
    wanted = finding.outcome.signature

    def fails(smaller: Case) -> bool:
        return run_case(caffe, smaller, work).outcome.signature == wanted

    small = shrink(case, fails, setting.tries)
    shrunk = run_case(caffe, small, work)
    if (
        shrunk.outcome.accepted
    ):  # a random layer had kept the port's pycaffe and Net from comparison
        return replace(finding.outcome, accepted=shrunk.outcome.accepted)
    if shrunk.outcome.good:  # it fails now and then only
        small, shrunk = case, finding
    place = folder / f"{index:05d}_{small.type}_{small.kind}"
    write_finding(place, small, shrunk, caffe.about()["versions"])
    return replace(finding.outcome, message=shrunk.outcome.message, folder=place.name)


def write_finding(folder: Path, case: Case, finding: Finding, versions: dict[str, str]) -> None:
    """Writes a case as a golden folder; where Caffe gave no arrays, there are the inputs only."""
    notes = {
        "oracle": f"caffe {versions['caffe']}",
        "versions": versions,
        "notes": f"{finding.outcome.status}: {finding.outcome.message}",
        "kind": case.kind,
        "seed": case.seed,
        "log": finding.log,
    }
    if case.solver is None:
        write_recording(folder, finding.net, case.phase, finding.arrays, finding.answer, notes)
    else:
        write_training(
            folder, finding.net, case.solver.text(), case.solver.steps, finding.arrays,
            finding.answer, notes,
        )  # fmt: skip
