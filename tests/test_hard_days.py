"""Commands that are killed or run out of disk, in short; tools/hard_days.py does so at length."""

from __future__ import annotations

import random

import pytest

from tests.goldens_dir import ROOT


@pytest.fixture
def hard_days(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import hard_days

    return hard_days


@pytest.mark.parametrize("name", ["convert", "crf"])
def test_a_killed_command_ends_as_if_nothing_had_happened(hard_days, name, tmp_path):
    row = hard_days.hard_day(hard_days.JOBS[name], tmp_path, 1, random.Random(name))
    _, broken, end, disk = row.strip("| ").split(" | ")[1:]
    assert (broken, end) == ("0", "equal")
    assert disk.endswith("told, nothing half-written")


def test_a_half_written_file_is_noticed(hard_days, tmp_path):
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / ".net.pt").write_bytes(b"a temporary one")
    assert hard_days.unreadable(tmp_path) == [tmp_path / "net.pt"]
