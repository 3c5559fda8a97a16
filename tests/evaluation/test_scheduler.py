"""Steps in threads: order of results, bounds, later stages first, errors, closing."""

from __future__ import annotations

import threading

import pytest

from caffe_port.errors import UsageError
from caffe_port.evaluation.scheduler import (
    FIRST,
    Role,
    Step,
    Threads,
    _Scheduler,
    cores,
    divide,
    run_steps,
)
from tests.waiting import LIMIT

LAST = 2
ALL = frozenset({FIRST, 1, LAST})


def role(count, stages=ALL):
    return Role(count, stages, lambda: None)


def three_steps(item, log=lambda stage, item: None):
    def last():
        log(LAST, item)
        return item * 10

    def middle():
        log(1, item)
        return Step(LAST, last)

    log(FIRST, item)
    return Step(1, middle)


@pytest.mark.parametrize(
    "roles",
    [
        [role(1)],
        [role(3)],
        [role(1, frozenset({1})), role(2, ALL - {1})],
        [role(2, frozenset({FIRST})), role(1, frozenset({1})), role(1, frozenset({LAST}))],
    ],
)
def test_results_come_in_order(roles):
    found = list(run_steps(iter(range(50)), three_steps, roles, prefetch=3))
    assert found == [10 * i for i in range(50)]
    assert list(run_steps(iter([]), three_steps, roles, prefetch=3)) == []


def test_one_thread_finishes_an_item_before_it_starts_the_next():
    log = []
    list(run_steps(iter(range(3)), lambda i: three_steps(i, lambda *x: log.append(x)), [role(1)],
                   prefetch=3))  # fmt: skip
    assert log == [(stage, i) for i in range(3) for stage in (FIRST, 1, LAST)]


def test_few_are_started_at_a_time():
    under_way, most, lock = set(), [0], threading.Lock()

    def log(stage, item):
        with lock:
            under_way.add(item) if stage == FIRST else None
            most[0] = max(most[0], len(under_way))
            under_way.discard(item) if stage == LAST else None

    begin = lambda i: three_steps(i, log)  # noqa: E731
    roles = [role(2, frozenset({FIRST})), role(1, ALL - {FIRST})]
    assert len(list(run_steps(iter(range(40)), begin, roles, prefetch=4))) == 40
    assert most[0] <= 4


def test_a_finished_item_needs_no_step():
    assert list(run_steps(iter("ab"), str.upper, [role(2)], prefetch=2)) == ["A", "B"]


@pytest.mark.parametrize("where", ["items", "step", "prepare"])
def test_an_unexpected_error_ends_it(where):
    def items():
        yield 1
        if where == "items":
            raise ZeroDivisionError
        yield 2

    def step():
        if where == "step":
            raise ZeroDivisionError
        return 0

    def prepare():
        if where == "prepare":
            raise ZeroDivisionError

    roles = [Role(2, ALL, prepare)]
    with pytest.raises(ZeroDivisionError):
        list(run_steps(items(), lambda i: Step(1, step), roles, prefetch=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("evaluate-")]


def test_closing_starts_nothing_more(monkeypatch):
    held, close = threading.Event(), _Scheduler.close
    monkeypatch.setattr(_Scheduler, "close", lambda scheduler: (close(scheduler), held.set()))

    def begin(item):
        return item if item == 0 else held.wait(LIMIT)

    items = iter(range(10**9))
    results = run_steps(items, begin, [role(2)], prefetch=2)
    assert next(results) == 0
    results.close()
    assert next(items) <= 3
    assert not [t for t in threading.enumerate() if t.name.startswith("evaluate-")]


def test_two_run_concurrently():
    both = threading.Barrier(2, timeout=LIMIT)
    assert (
        len(list(run_steps(iter(range(2)), lambda i: both.wait() >= 0, [role(2)], prefetch=2))) == 2
    )


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (2, {}, Threads(2, 1, 0, True)),
        (1, {}, Threads(1, 1, 0, True)),
        (16, {}, Threads(4, 4, 0, True)),
        (16, {"jobs": 1}, Threads(1, 16, 0, True)),
        (2, {"jobs": 8}, Threads(8, 1, 0, True)),
        (16, {"refiner_threads": 6, "jobs": 2}, Threads(2, 5, 6, False)),
        (1, {"refiner_threads": 3}, Threads(1, 1, 3, False)),
        (16, {"on_cpu": False}, Threads(1, 1, 16, False)),
        (16, {"on_cpu": False, "refiner_threads": 2, "jobs": 3}, Threads(3, 1, 2, False)),
    ],
)
def test_the_division_of_the_cores(count, options, expected):
    options = {"jobs": None, "refiner_threads": 0, "on_cpu": True, **options}
    threads = divide(count, 100, **options)
    assert threads == expected
    served = frozenset().union(*(role.stages for role in threads.roles()))
    assert served == ALL
    assert threads.prefetch >= sum(role.count for role in threads.roles())


def test_one_image_has_all_cores():
    options = {"jobs": None, "refiner_threads": 0}
    assert divide(16, 1, on_cpu=True, **options) == Threads(1, 16, 0, True)
    assert divide(16, 1, on_cpu=False, **{**options, "jobs": 3}).workers == 1


def test_impossible_divisions_are_refused():
    with pytest.raises(UsageError, match="at least one job"):
        divide(2, 5, jobs=0, refiner_threads=0, on_cpu=True)


def test_cores_of_one_process_among_several(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert cores(3) == 4
    assert cores(99) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "8,2")
    assert cores() == 12
