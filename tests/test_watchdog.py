"""Files that do not answer are reported, then given up; slow work does not count as a stall."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from caffe_port import stalls, watchdog
from caffe_port.errors import UsageError
from tests.waiting import LIMIT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="made for /proc and fork")
START = """
import os, signal, subprocess, sys, threading, time
from caffe_port import start, stalls, watchdog
watchdog._REPORT_AFTER, watchdog._GRACE, watchdog._TICK, watchdog._END = 0.2, 0.2, 0.1, {end}
def stall():
    with stalls.Waiting("/mnt/net/x.jpg"):
        threading.Event().wait()
def main():
    print("begun", flush=True)
    {body}
{before}
start.run("evaluate", main, status=2)
"""


def program(body, patience="0.5", before="", end=LIMIT):
    """A watched command.

    Args:
        end: seconds that it has to end by itself before it is killed.
    """
    body = textwrap.indent(textwrap.dedent(body), "    ").strip()
    code = START.format(body=body, before=before, end=end)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CAFFE_PORT_PATIENCE": patience},
    )  # fmt: skip


def test_a_command_without_an_answer_reports_it_and_ends_with_its_children():
    process = program("""
        child = subprocess.Popen(["sleep", "infinity"], stdout=subprocess.DEVNULL, stderr=-3)
        print(child.pid, flush=True)
        stall()
    """)
    said, wrong = process.communicate()
    assert process.returncode == 2
    told, ended = wrong.splitlines()
    assert told.startswith("evaluate: no answer from '/mnt/net/x.jpg' for ")
    assert "'/mnt/net/x.jpg' gave no answer for " in ended
    state = Path("/proc", said.split()[1], "stat")
    wait_until(lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_command_that_holds_the_interpreter_lock_is_ended():
    process = program(
        """
        import ctypes
        with stalls.Waiting("a.pt"):
            ctypes.PyDLL(None).pause()
    """,
        end=0.3,
    )
    _, wrong = process.communicate()
    assert process.returncode in (2, -signal.SIGKILL)
    assert "'a.pt' gave no answer" in wrong


def test_work_is_not_a_stall():
    process = program("""
        with stalls.Waiting("large.caffemodel"):
            until = time.monotonic() + 1
            while time.monotonic() < until:
                sum(range(1000))
        time.sleep(0.6)
    """)
    _, wrong = process.communicate()
    assert (process.returncode, wrong) == (0, "")


def test_ctrl_c_ends_a_command_whose_workers_never_return():
    process = program("threading.Thread(target=stall).start()", patience="0")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in wrong
    assert "Traceback" not in wrong


def test_the_end_of_the_watchdog_is_reported():
    process = program("""
        children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        os.kill(int(open(children).read().split()[0]), signal.SIGKILL)
        while threading.active_count() > 1:
            time.sleep(0.01)
    """)
    _, wrong = process.communicate()
    assert process.returncode == 0
    assert wrong == (
        "evaluate: its watchdog has ended; files that do not answer will not be detected\n"
    )


def test_the_cause_of_its_failure_is_reported():
    process = program("threading.Event().wait()", before="watchdog._Watch.tick = None")
    process.stdout.readline()
    said = process.stderr.readline()
    process.kill()
    process.communicate()
    assert said.startswith("evaluate: its watchdog failed: TypeError: ")


def test_a_command_that_cannot_be_killed_is_reported():
    process = program("stall()", before="watchdog._end = lambda *words: False")
    said = [process.stderr.readline() for _ in range(3)]
    process.kill()
    process.communicate()
    assert "given up" in said[1]
    assert "killed, but the system keeps it" in said[2]


class Recorded(watchdog._Watch):
    """A watchdog that keeps its messages."""

    def __init__(self, patience=30.0, interrupts=1):
        rule = watchdog._Rule(patience, 2, interrupts)
        super().__init__("train", 1, stalls.Board(), rule)
        self.said: list[str] = []

    def say(self, words):
        self.said.append(words)


@pytest.fixture
def signs(monkeypatch):
    found = {}
    monkeypatch.setattr(watchdog, "_signs", lambda process: dict(found))
    return found


def test_a_stall_is_reported_once_and_its_end_too(signs):
    watch = Recorded()
    place = watch.board.begin("a.jpg")
    assert [watch.tick(5, 0) for _ in range(6)] == [None] * 6
    watch.board.end(place)
    assert watch.tick(5, 0) is None
    assert [words.split(":")[0] for words in watch.said] == [
        "no answer from 'a.jpg' for 15 s", "'a.jpg' answers again",
    ]  # fmt: skip


def test_slow_bytes_are_an_answer(signs):
    watch = Recorded()
    (note,) = [watch.board.begin("a.jpg")] and watch.board.notes()
    for i in range(20):
        signs[note.thread] = f"D wait 0 0 {i}"
        assert watch.tick(5, 0) is None
    assert watch.said == []


def test_a_wait_without_a_note_is_found_in_proc(signs):
    watch = Recorded()
    signs.update({1: "S futex_wait 0 0 1", 2: "S request_wait_answer 0 0 1"})
    assert [watch.tick(10, 0) for _ in range(4)] == [None, None, None, 2]
    assert watch.said[0].startswith("no answer from a file or folder for")


def test_a_program_stopped_by_its_user_is_not_stalled(signs):
    watch = Recorded()
    watch.board.begin("a.jpg")
    signs[watch.board.notes()[0].thread] = "T do_signal_stop 0 0 1"
    assert [watch.tick(100, 0) for _ in range(4)] == [None] * 4


@pytest.mark.parametrize(("needed", "ends"), [(1, [None] * 5 + [130, 130]), (2, [None] * 7)])
def test_a_training_is_ended_only_by_the_second_ctrl_c(signs, needed, ends):
    watch = Recorded(0.0, needed)
    watch.board.begin("a.jpg")
    assert [watch.tick(1, int(i > 0)) for i in range(7)] == ends
    assert watch.tick(1, 2) == 130


def test_nothing_is_noted_without_a_watchdog():
    assert not stalls.is_watched()
    with stalls.Waiting("a.jpg"):
        assert not stalls.is_watched()


def test_waits_beyond_the_capacity_are_not_noted():
    board = stalls.Board()
    places = [board.begin(f"{i}") for i in range(200)]
    assert sum(place is not None for place in places) == len(board.notes()) == 128
    for place in places:
        board.end(place)
    assert board.notes() == []


def test_a_large_file_is_read_in_parts(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 40000)
    with stalls.NotedFile(path) as file:
        assert file.readall() == path.read_bytes()


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_patience_that_is_not_a_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(watchdog.VARIABLE, text)
    with pytest.raises(UsageError, match="expected seconds"):
        watchdog.patience()


def test_a_forked_child_is_neither_watched_nor_waited_for():
    program = textwrap.dedent("""
        import os, time
        from caffe_port import stalls, watchdog
        told, telling = os.pipe()
        with watchdog.watched("it", 2):
            if os.fork() == 0:
                os.write(1, b"watched " if stalls.is_watched() else b"alone ")
                os.close(1), os.close(2)
                os.write(telling, b"x")
                while True:
                    time.sleep(60)
            os.read(told, 1)
        os.write(1, b"ended")
        os.kill(0, 9)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, timeout=LIMIT,
        start_new_session=True,
    )  # fmt: skip
    assert done.stdout == b"alone ended"
