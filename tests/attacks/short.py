"""The attacks that take no time, each at its last entry point, for the tests.

They share a process, because forking one that has imported torch takes longer than most attacks.
If it dies or hangs, the attack that was running has failed, and another process runs the rest.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tests.attacks import running
from tests.attacks.attack import Attack
from tests.attacks.running import Outcome
from tests.waiting import LIMIT


def main(results: Path) -> None:
    """Writes the outcomes as JSON."""
    from tests.attacks.test_attacks import SHORT

    attacks = [replace(attack, entries=attack.entries[-1:]) for attack in SHORT]
    outcomes: list[Outcome] = []
    while len(outcomes) < len(attacks):
        outcomes += _together(attacks[len(outcomes) :])
    results.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))


def _together(attacks: Sequence[Attack]) -> list[Outcome]:
    """The outcomes up to the last of them, or to the first that ends or blocks the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(attacks, writing)
    os.close(writing)
    outcomes = []
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while select.select([stream], [], [], LIMIT)[0] and (line := stream.readline()):
            outcomes += [Outcome(**found) for found in json.loads(line)]
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if len(outcomes) < len(attacks):
        worst = attacks[len(outcomes)]
        end = f"ended by {status}: hung or crashed"
        outcomes.append(Outcome(worst.family, worst.name, worst.entries[0].name, end))
    return outcomes


def _run(attacks: Sequence[Attack], writing: int) -> None:
    """Never returns."""
    try:
        import torch  # noqa: F401 - the limits are above what it maps

        running.confine()
        with tempfile.TemporaryDirectory(dir=_quick_folder()) as folder:
            runner = running.Runner(Path(folder) / "scenes", running.run_here)
            for attack in attacks:
                found = [asdict(outcome) for outcome in runner.run(attack)]
                os.write(writing, f"{json.dumps(found)}\n".encode())
    finally:
        os._exit(0)


def _quick_folder() -> str | None:
    """Where making and removing small files takes least, if it has room: in memory."""
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30:
        return memory
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
