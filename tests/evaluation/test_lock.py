"""One process at a time in a folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from caffe_port.errors import UsageError
from caffe_port.evaluation.store import NAME, locked

OTHER = """
import sys
from caffe_port.errors import UsageError
from caffe_port.evaluation.store import locked
try:
    with locked(sys.argv[1]):
        print("took it")
except UsageError as error:
    print(error)
"""


def other(folder):
    done = subprocess.run(
        [sys.executable, "-c", OTHER, folder], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_another_process_waits_its_turn_and_the_same_one_may_ask_twice(tmp_path):
    with locked(tmp_path / "out"), locked(tmp_path / "out"):
        words = other(tmp_path / "out")
        assert f"process {os.getpid()} on " in words
        assert "is evaluating into this folder" in words
    assert other(tmp_path / "out") == "took it\n"
    with locked(tmp_path / "out"):
        assert f"process {os.getpid()} on" in (tmp_path / "out" / NAME).read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"), locked(tmp_path / "file" / "out"):
        pass


def test_a_link_as_lock_is_not_written_through(tmp_path):
    (tmp_path / "other").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".evaluation.lock").symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="cannot be written"), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "other").read_text() == "kept"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_a_file_system_without_stable_inodes_does_not_loop_forever(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.samestat", lambda a, b: False)
    with locked(tmp_path / "out"):
        assert "is evaluating into this folder" in other(tmp_path / "out")
