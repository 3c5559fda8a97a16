"""Ctrl-C in a command: one line and status 130, at any moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
PROGRAM = """
import os, signal, sys, threading, time
import click
from caffe_port import start
def press():
    signal.raise_signal(signal.SIGINT)
{main}
sys.argv[1:] = []
start.run("caffe-port", main, status=2)
"""
CASES = {
    "in the command": "def main():\n    press()",
    "while it exits": """
        def main():
            try:
                press()
            finally:
                press()
    """,
    "before click calls the command": """
        class Early(click.Command):
            def make_context(self, *words, **more):
                press()
        def main():
            Early("early").main()
    """,
    "while click reports another Ctrl-C": """
        @click.command()
        def main():
            try:
                press()
            except KeyboardInterrupt:
                raise click.exceptions.Exit(1) from None
    """,
    "where it is turned into an error": """
        def main():
            try:
                press()
            except KeyboardInterrupt:
                raise RuntimeError("a library's own words") from None
    """,
    "where Python cannot raise it": """
        class Going:
            def __del__(self):
                press()
        def main():
            going = Going()
            del going
            while True:
                time.sleep(60)
    """,
    "with threads that never return": """
        def main():
            threading.Thread(target=threading.Event().wait).start()
            press()
    """,
    "after its end": """
        def main():
            ended = threading.main_thread().join
            threading.Thread(target=lambda: (ended(), os.kill(os.getpid(), 2))).start()
            return 0
    """,
}


def run(main):
    code = PROGRAM.format(main=textwrap.dedent(main))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("main", CASES.values(), ids=CASES)
def test_every_ctrl_c_ends_with_one_line(main):
    ended = run(main)
    assert ended.returncode == 130
    assert ended.stderr.count("caffe-port: interrupted\n") == 1
    assert "Traceback" not in ended.stderr


def test_a_ctrl_c_that_a_command_reported_is_not_reported_again():
    ended = run("""
        def main():
            try:
                press()
            except KeyboardInterrupt:
                print("interrupted: 3 maps are kept", file=sys.stderr)
                start.interrupt_reported("interrupted")
                return 130
    """)
    assert (ended.returncode, ended.stderr) == (130, "interrupted: 3 maps are kept\n")
