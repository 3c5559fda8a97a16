"""`caffe-port explore` as a process: the address that it prints, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest

from tests import preloaded
from tests.explore.client import IMAGE, MODEL, NAMES, WEIGHTS, Client, segmenter
from tests.waiting import LIMIT

START = "from caffe_port.start import caffe_port; caffe_port()"


def start(*words):
    """The process and the address that it prints."""
    process = preloaded.start(
        [sys.executable, "-c", START, "explore", MODEL, WEIGHTS, "--names", NAMES, "--no-browser",
         *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[0] == "Explore net.prototxt at\n"
    return process, lines[1].strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_interrupted(number):
    process, url = start()
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/[A-Za-z0-9_-]{32}/", url)
    client = Client(url)
    labels = client.open().show()[1]["labels"]
    assert (labels == segmenter()(IMAGE).labels).all()
    client.close()
    process.send_signal(number)
    _, wrong = process.communicate(LIMIT)
    assert "Traceback" not in wrong
    assert process.wait() == (0 if number == signal.SIGINT else -signal.SIGTERM)


def test_a_used_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        done = preloaded.run(
            [sys.executable, "-c", START, "explore", MODEL, WEIGHTS, "--port", str(port)]
        )
    assert done.returncode == 2
    assert f"127.0.0.1, port {port}: cannot listen there" in done.stderr
    assert "--port" in done.stderr
