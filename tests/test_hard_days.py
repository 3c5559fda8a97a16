"""Hard days in short; ``python -m tools.hard_days`` does the same at length."""

from __future__ import annotations

import random
import sys

import pytest

from tools.hard_days import full_disk, interrupted, killed, page, permissions, together
from tools.hard_days.__main__ import PARTS
from tools.hard_days.results import unreadable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ptys, /proc, mounts")


def row(part, name, folder, times=1):
    return part.row(name, folder, times, random.Random(name))


def test_a_killed_command_ends_as_if_nothing_had_happened(tmp_path):
    assert row(killed, "crf", tmp_path) == ["`crf`", "1", "0", "equal"]


@pytest.mark.parametrize("name", ["crf", "upgrade"])
def test_a_full_disk_is_told_and_leaves_what_was_there(name, tmp_path):
    found = row(full_disk, name, tmp_path)
    assert full_disk.is_good(found), found


@pytest.mark.parametrize("name", ["crf", "upgrade"])
def test_what_may_not_be_read_or_written_is_named(name, tmp_path):
    found = row(permissions, name, tmp_path)
    assert permissions.is_good(found), found


def test_ctrl_c_leaves_a_tidy_terminal(tmp_path):
    found = row(interrupted, "crf", tmp_path, times=2)
    assert interrupted.is_good(found), found


def test_a_second_process_is_told_who_is_there(tmp_path):
    found = row(together, "crf", tmp_path)
    assert together.is_good(found), found


def test_a_half_written_file_is_noticed(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / ".net.pt").write_bytes(b"a temporary one")
    assert unreadable(tmp_path) == [tmp_path / "net.pt"]


@pytest.mark.parametrize("name", PARTS)
def test_every_case_has_a_row_and_every_row_is_good(name):
    rows = page.read()[name]
    assert set(rows) == set(PARTS[name].CASES)
    for cells in rows.values():
        assert len(cells) == len(PARTS[name].HEAD)
        assert PARTS[name].is_good(cells), cells


@pytest.mark.parametrize("name", ["killed", "interrupted"])
def test_the_rows_are_of_many_times(name):
    for case, cells in page.read()[name].items():
        assert int(cells[1]) >= (30 if case in killed.CASES else 10)


def test_the_page_is_made_of_the_rows():
    shown = page.PAGE.read_text(encoding="utf-8")
    assert shown == "\n".join([page.TOP, *page.sections(PARTS, page.read())])
