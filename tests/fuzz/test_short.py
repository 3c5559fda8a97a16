"""Every target on its seeds and on changed ones; atheris for a moment."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.report import PAGE, Result, from_log, page, rows
from tests.fuzz.targets import TARGETS
from tests.goldens_dir import ROOT
from tests.waiting import LIMIT

CHANGED = 150


@pytest.fixture(autouse=True)
def _stays_here() -> object:
    """Some targets change the folder, so that names in nets lead nowhere."""
    here = Path.cwd()
    yield
    os.chdir(here)


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = TARGETS[name]
    count = min(len(list(target.seeds())), 60) + CHANGED
    for data in itertools.islice(inputs(target, seed=1), count):
        target.check(data)


def test_a_bug_would_be_found() -> None:
    bad = TARGETS["wire"].__class__(lambda data: [][len(data)], TARGETS["wire"].seeds)
    with pytest.raises(IndexError):
        bad.check(b"x")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "wire", "--runs", "500"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    row = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")]
    assert row[1:4] == ["wire", "atheris", "500"]
    assert int(row[4]) > 20, "it counts no edges"
    assert row[6] == "0"


def test_a_find_is_reported_with_the_command_to_reproduce_it(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    log.write_text(
        "#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 1Mb\n"
        "#77\tNEW    cov: 13 ft: 14 corp: 1/1b lim: 4 exec/s: 0 rss: 1Mb\n"
        "artifact_prefix='a/'; Test unit written to a/crash-1\n"
    )
    result = from_log("wire", "atheris", log, 77)
    assert result == Result("wire", "atheris", 77, 13, 14, True, (Path("a/crash-1"),))
    assert rows([result])[-1] == "| wire | atheris | 77 | 13 | 14 | 1 |"
    assert result.again() == ["python -m tests.fuzz wire --replay a/crash-1"]
    log.write_text("")
    assert from_log("wire", "atheris", log, -9).line() == "| wire | atheris | 0 | 0 | 0 | failed |"


def test_the_page_is_that_of_the_command() -> None:
    """All targets are on it, and nothing else than the table and its figures differs."""
    held = PAGE.read_text(encoding="utf-8")
    names = [
        line.split(" | ")[0].removeprefix("| ") for line in held.splitlines() if "| at" in line
    ]
    assert names == list(TARGETS)
    seconds = int(held.split("SECONDS=")[1].split("`")[0])
    table = held[held.index("| target |") : held.index("\n\n*edges*")]
    assert held == page([], seconds).replace("\n".join(rows([])), table)
