"""What drives a target: atheris (libFuzzer guided by coverage), or changes at random."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.effort import FOLDER, Effort
from tests.fuzz.mutate import STRUCTURED, inputs
from tests.fuzz.report import Result, from_log
from tests.fuzz.target import Target, folder

_Running = dict[int, tuple[str, TemporaryDirectory[str]]]


def has_atheris() -> bool:
    """Whether atheris is installed."""
    return find_spec("atheris") is not None


def load_targets(*, guided: bool) -> dict[str, Target]:
    """All targets by name; atheris counts only in what is imported under its eyes."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["caffe_port"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    return TARGETS


def with_atheris(targets: dict[str, Target], effort: Effort, jobs: int) -> list[Result]:
    """Targets in processes of their own, since atheris never returns; so many at a time."""
    waiting, done = list(targets), {}
    running: _Running = {}
    while waiting or running:
        if waiting and len(running) < jobs:
            name, work = waiting.pop(0), folder()
            running[_started(name, targets[name], effort, Path(work.name))] = name, work
            continue
        process, status = os.wait()
        name, work = running.pop(process)
        work.cleanup()
        code = os.waitstatus_to_exitcode(status)
        done[name] = from_log(name, "atheris", FOLDER / f"{name}.log", code)
        print(done[name].line(), flush=True)
    return [done[name] for name in targets]


def _started(name: str, target: Target, effort: Effort, work: Path) -> int:
    """The process that fuzzes one target; what it says goes to a log."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    if process := os.fork():
        return process
    log = os.open(FOLDER / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["FUZZ_SCRATCH"] = str(work)
    try:
        _fuzz(name, target, effort, work)
    except BaseException:  # such as a seed that the target does not take
        traceback.print_exc()
    os._exit(1)


def _fuzz(name: str, target: Target, effort: Effort, work: Path) -> None:
    """Inside that process; ends it."""
    import atheris

    with atheris.instrument_imports(include=["caffe_port"]):
        seeds = list(target.seeds())
        for seed in seeds:  # much is imported when it is first needed
            target.check(seed)
    corpus = effort.corpus(name, work)
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i:03}").write_bytes(seed)
    options = effort.options(name)
    if words := [*target.words()]:
        dictionary = (FOLDER / f"{name}.dict").resolve()
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        options.append(f"-dict={dictionary}")
    more = {} if target.structured is None else {"custom_mutator": _mutator(target.structured)}
    atheris.Setup([sys.argv[0], *options, str(corpus.resolve())], target.check, **more)
    atheris.Fuzz()


def _mutator(
    structured: Callable[[bytes, random.Random, Callable[[bytes], bytes]], bytes],
) -> Callable[[bytes, int, int], bytes]:
    """The target's own changes among libFuzzer's."""
    import atheris

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < STRUCTURED:
            changed = structured(data, chance, lambda part: atheris.Mutate(part, len(part) + 64))
            if len(changed) <= most:
                return changed
        return bytes(atheris.Mutate(data, most))

    return mutate


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def plainly(targets: dict[str, Target], effort: Effort) -> list[Result]:
    """Targets on changes of our own, in this process."""
    here, results = Path.cwd(), []
    for name, target in targets.items():
        results.append(_plain(name, target, effort))
        os.chdir(here)  # some targets change it
        print(results[-1].line(), flush=True)
    return results


def _plain(name: str, target: Target, effort: Effort) -> Result:
    end, count, found = time.monotonic() + effort.seconds, 0, effort.found(name).resolve()
    for count, data in enumerate(itertools.islice(inputs(target, effort.seed), effort.runs), 1):
        if effort.runs is None and time.monotonic() > end:
            break
        try:
            target.check(data)
        except Exception:
            traceback.print_exc()
            file = found / f"plain-{count}"
            file.write_bytes(data)
            return Result(name, "random changes", count, failed=True, found=(file,))
    return Result(name, "random changes", count)
