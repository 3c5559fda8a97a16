"""Hundreds of requests of four pages at once: all are answered, and memory stays flat."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import caffe_port as cp
from caffe_port.exploring.jobs import MOST_WAITING
from caffe_port.exploring.sessions import Limits
from tests.explore.client import IMAGE, IMAGES, Client, RefusedError, segmenter

REQUESTS, CLIENTS = 500, 4
WARM, GROWTH = 0.4, 48 * 2**20  # share of the requests before memory counts; bytes
OTHER = IMAGES / "shape_val_0002.jpg"


def resident() -> int:
    """Bytes of this process, which is client and server."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Visitor(threading.Thread):
    """Uses the page as a person does: images, sliders, clicks, layers, now and then a new tab."""

    def __init__(self, url: str, number: int, wanted: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.client, self.number, self.wanted = Client(url), number, wanted
        self.random = np.random.default_rng(number)
        self.answered, self.memory = 0, [0]
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self.tab = self.client.open()
            self.show()
            for step in range(REQUESTS // CLIENTS):
                self.step(step)
                self.answered += 1
                if sys.platform == "linux" and step >= WARM * REQUESTS / CLIENTS:
                    self.memory.append(resident())
        except Exception as error:
            self.failure = error
        finally:
            self.client.close()

    def show(self) -> None:
        path = (IMAGE, OTHER)[int(self.random.integers(2))]
        labels = self.tab.show(path.read_bytes())[1]["labels"]
        np.testing.assert_array_equal(labels, self.wanted[path.name])

    def step(self, step: int) -> None:
        kind = int(self.random.integers(10))
        if step % 40 == 39:
            self.client.post(f"api/sessions/{self.tab.session}/close")
            self.tab = self.client.open()
            self.show()
        elif kind < 5:
            values = {"bi_w": float(kind + 1), "bi_xy_std": float(self.random.integers(5, 90)),
                      "iterations": 2}  # fmt: skip
            found = self.tab.post("crf", {"parameters": values, "colours": "rgb"})[1]
            assert found["labels"].max() < 6
        elif kind < 7:
            place = {"y": int(self.random.integers(90)), "x": int(self.random.integers(90))}
            assert self.tab.post("trace", {"region": "pixel", **place})[0]["points"] > 0
        elif kind == 7:
            self.tab.post("channels", {"blob": "conv2_1"})
        elif kind == 8:
            with pytest.raises(RefusedError, match="not an image"):
                self.tab.show(b"\x89PNG broken")
        else:
            self.show()


@pytest.fixture(scope="module")
def visitors():
    one = segmenter()
    wanted = {path.name: one(path).labels for path in (IMAGE, OTHER)}
    limits = Limits(sessions=CLIENTS + 1)
    with cp.explore(one, limits=limits) as page:
        found = [Visitor(page.url, number, wanted) for number in range(CLIENTS)]
        for visitor in found:
            visitor.start()
        for visitor in found:
            visitor.join()
        yield page, found


def test_all_are_answered(visitors):
    page, found = visitors
    assert [visitor.failure for visitor in found] == [None] * CLIENTS
    assert sum(visitor.answered for visitor in found) == REQUESTS
    assert len(page.server.sessions) <= CLIENTS + 1
    assert page.server.sessions.memory < 64 * 2**20
    assert MOST_WAITING > CLIENTS  # so that none was refused as busy


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(visitors):
    _, found = visitors
    taken = [value for visitor in found for value in visitor.memory[1:]]
    assert max(taken) - min(taken) < GROWTH
