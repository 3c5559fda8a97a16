"""Every attack ends in a named error; the published table has all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.everything import ATTACKS
from tests.goldens_dir import ROOT
from tests.waiting import LIMIT

#: Built or fought for longer than a second; the command runs them.
LONG = ("million", "billion", "MB", "GB", "gigabyte", "10,000", "20,000", "100,000")
SHORT = [attack for attack in ATTACKS if not any(word in attack.name for word in LONG)]
Found = dict[tuple[str, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The outcomes of the short attacks, all in one run."""
    results = tmp_path_factory.mktemp("attacks") / "outcomes.json"
    script = Path(__file__).with_name("short.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(results)], check=False, capture_output=True, text=True,
        env=environment, timeout=LIMIT,
    )  # fmt: skip
    assert results.is_file(), done.stderr[-2000:]
    outcomes: Found = {}
    for outcome in json.loads(results.read_text()):
        outcomes.setdefault((outcome["family"], outcome["attack"]), []).append(outcome)
    return outcomes


@pytest.mark.parametrize("attack", SHORT, ids=str)
def test_ends_in_a_named_error(found: Found, attack: Any) -> None:
    outcomes = found[attack.family, attack.name]
    for outcome in outcomes:
        assert outcome["end"] == "refused" or outcome["entry"] in attack.reads, outcome
        assert outcome["error"] or outcome["end"] == "read", outcome
        assert not outcome["executed"], outcome
        assert not outcome["shown"], outcome
        assert outcome["end"] == "read" or not outcome["written"], outcome


def test_the_published_table_has_every_attack_within_its_bounds() -> None:
    published = json.loads((ROOT / "docs" / "security.json").read_text())
    entries, named = published["entries"], set()
    for attack in published["attacks"]:
        for entry, end, error, seconds, megabytes in attack["outcomes"]:
            named.add((attack["family"], attack["attack"], entries[entry]))
            assert end == "read" or (end == "refused" and error), attack
            assert seconds <= 2, attack
            assert megabytes <= 200, attack
    assert named == {(a.family, a.name, e.name) for a in ATTACKS for e in a.entries}
    text = (ROOT / "docs" / "security.md").read_text()
    assert all(f"| {attack.name} |" in text for attack in ATTACKS)
