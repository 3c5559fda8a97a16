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
from tests.fuzz.targets import TARGETS
from tests.goldens_dir import ROOT

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
    command = [sys.executable, "-m", "tests.fuzz", "wire", "--seconds", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing found" in done.stdout
