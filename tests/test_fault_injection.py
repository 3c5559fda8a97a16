"""A short run of every fault; ``python -m tools.fault_injection`` injects each many times."""

from __future__ import annotations

import random
import sys

import pytest

from tools.fault_injection import full_disk, interrupted, killed, page, permissions, together
from tools.fault_injection.__main__ import PARTS
from tools.fault_injection.results import unreadable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ptys, /proc, mounts")


def row(part, name, folder, times=1):
    return part.row(name, folder, times, random.Random(name))


def test_a_killed_command_gives_the_same_result_when_run_again(tmp_path):
    assert row(killed, "crf", tmp_path) == ["`crf`", "1", "0", "equal"]


@pytest.mark.parametrize("name", ["crf", "upgrade"])
def test_a_full_disk_is_reported_and_the_previous_output_kept(name, tmp_path):
    found = row(full_disk, name, tmp_path)
    assert full_disk.is_good(found), found


@pytest.mark.parametrize("name", ["crf", "upgrade"])
def test_missing_permissions_are_reported(name, tmp_path):
    found = row(permissions, name, tmp_path)
    assert permissions.is_good(found), found


def test_ctrl_c_restores_the_terminal(tmp_path):
    found = row(interrupted, "crf", tmp_path, times=2)
    assert interrupted.is_good(found), found


def test_a_second_process_names_the_first(tmp_path):
    found = row(together, "crf", tmp_path)
    assert together.is_good(found), found


def test_a_partial_file_is_found(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / ".net.pt").write_bytes(b"a temporary one")
    assert unreadable(tmp_path) == [tmp_path / "net.pt"]


@pytest.mark.parametrize("name", PARTS)
def test_every_case_has_a_row_and_every_row_is_as_required(name):
    rows = page.read()[name]
    assert set(rows) == set(PARTS[name].CASES)
    for cells in rows.values():
        assert len(cells) == len(PARTS[name].HEAD)
        assert PARTS[name].is_good(cells), cells


@pytest.mark.parametrize("name", ["killed", "interrupted"])
def test_kills_and_interrupts_were_repeated(name):
    for case, cells in page.read()[name].items():
        assert int(cells[1]) >= (30 if case in killed.CASES else 10)


def test_the_page_shows_the_rows():
    shown = page.PAGE.read_text(encoding="utf-8")
    assert shown == "\n".join([page.TOP, *page.sections(PARTS, page.read())])
