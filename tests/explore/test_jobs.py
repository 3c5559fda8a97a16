"""Jobs: one at a time, replaced by newer ones, cancelled inside a network; packed answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from caffe_port.exploring.jobs import MOST_WAITING, Answer, BusyError, DroppedError, Worker
from tests.explore.client import unpacked
from tests.waiting import LIMIT


@pytest.fixture
def worker():
    one = Worker()
    yield one
    one.close()


class Gate:
    """A job that says when it has begun, and calls torch until it may end."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        while not self.end.wait(0.001):
            torch.zeros(1).add(1)
        return "done"


def test_jobs_run_in_their_order_on_one_thread(worker):
    seen = []
    jobs = [worker.submit(i, lambda i=i: seen.append((i, threading.get_ident()))) for i in range(5)]
    for job in jobs:
        job.future.result(LIMIT)
    assert [i for i, _ in seen] == list(range(5))
    assert len({thread for _, thread in seen}) == 1


def test_a_newer_job_of_the_key_drops_the_waiting_one(worker):
    gate = Gate()
    first = worker.submit("other", gate)
    assert gate.begun.wait(LIMIT)
    older = worker.submit("crf", lambda: "older")
    newer = worker.submit("crf", lambda: "newer")
    gate.end.set()
    assert first.future.result(LIMIT) == "done"
    assert newer.future.result(LIMIT) == "newer"
    with pytest.raises(DroppedError):
        older.future.result(LIMIT)


def test_a_newer_job_cancels_the_running_one_inside_torch(worker):
    gate = Gate()
    older = worker.submit("image", gate)  # never ends by itself
    assert gate.begun.wait(LIMIT)
    newer = worker.submit("image", lambda: "newer")
    assert newer.future.result(LIMIT) == "newer"
    with pytest.raises(DroppedError):
        older.future.result(LIMIT)


def test_errors_belong_to_their_job(worker):
    with pytest.raises(ZeroDivisionError):
        worker.submit("a", lambda: 1 // 0).future.result(LIMIT)
    assert worker.submit("b", lambda: 7).future.result(LIMIT) == 7


def test_waiting_jobs_are_bounded(worker):
    gate = Gate()
    worker.submit("gate", gate)
    assert gate.begun.wait(LIMIT)
    jobs = [worker.submit(i, lambda: None) for i in range(MOST_WAITING)]
    with pytest.raises(BusyError, match="busy with earlier requests"):
        worker.submit("one more", lambda: None)
    replaced = worker.submit(0, lambda: "newer")  # takes the place of another
    gate.end.set()
    assert replaced.future.result(LIMIT) == "newer"
    assert jobs[-1].future.result(LIMIT) is None


def test_closing_ends_what_runs_and_waits():
    worker, gate = Worker(), Gate()
    running = worker.submit("a", gate)
    assert gate.begun.wait(LIMIT)
    waiting = worker.submit("b", lambda: None)
    worker.close(timeout=None)
    for job in (running, waiting):
        with pytest.raises(DroppedError):
            job.future.result(LIMIT)
    with pytest.raises(BusyError):
        worker.submit("c", lambda: None)


def test_a_packed_answer_has_its_values_and_arrays():
    arrays = {
        "labels": np.array([[1, 2, 3]], np.uint8),
        "confidence": np.array([[1, 65535]], np.uint16),
        "places": np.array([[0.5, -2]], np.float32),
        "ends": np.array([-7], np.int32),
    }
    content = Answer({"a": float("nan"), "b": [1, float("inf")], "c": "ä"}, arrays).packed()
    head, found = unpacked(content)
    assert head == {"a": None, "b": [1, None], "c": "ä"}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
