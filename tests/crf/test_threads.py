"""Threads: the GIL is released, results do not depend on company, float state is given back."""

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from caffe_port.crf import DenseCRF
from caffe_port.crf._lattice import Kernel, mean_field
from tests.crf.making import problem


def build(image, labels):
    height, width = image.shape[:2]
    crf = DenseCRF(height, width, labels)
    return crf.add_gaussian(3, weight=3).add_bilateral(30, 8, image, weight=4)


def test_threads_get_the_result_of_one():
    problems = [problem(40, 50 + i, labels=5, seed=i) for i in range(4)]
    want = [build(image, 5).infer(unary) for image, unary in problems]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda p: build(p[0], 5).infer(p[1]), problems * 3))
    assert all(np.array_equal(g, w) for g, w in zip(got, want * 3, strict=True))


def test_threads_may_share_one_crf():
    image, unary = problem(40, 50, labels=5)
    crf = build(image, 5)
    want = crf.infer(unary)
    with ThreadPoolExecutor(2) as pool:
        assert all(np.array_equal(q, want) for q in pool.map(crf.infer, [unary] * 8))


def build_a_kernel():
    features = np.random.default_rng(0).random((100_000, 5), np.float32) * 50
    return lambda: Kernel(features, 1.0, False)


def run_mean_field():
    kernel = Kernel(np.zeros((100_000, 2), np.float32), 1.0, False)
    unary = np.zeros((21, 100_000), np.float32)
    q = np.empty_like(unary)
    return lambda: mean_field(unary, (kernel,), 10, q)


@pytest.mark.parametrize("make", [build_a_kernel, run_mean_field], ids=["Kernel", "infer"])
def test_others_run_while_it_computes(make):
    """With no forced switches another thread runs only where the GIL is let go."""
    call, before = make(), sys.getswitchinterval()

    def seen_unfinished():
        started, finished = threading.Event(), threading.Event()

        def work():
            started.set()
            call()
            finished.set()

        worker = threading.Thread(target=work)
        worker.start()
        started.wait()
        result = not finished.is_set()
        worker.join()
        return result

    sys.setswitchinterval(1000)
    try:
        assert any(seen_unfinished() for _ in range(20))
    finally:
        sys.setswitchinterval(before)


def flushes_denormals():
    return not (np.full(8, 1e-40, np.float32) * np.float32(0.5)).any()


@pytest.fixture
def flushing():
    assert torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def test_denormals_are_kept_where_they_were_kept():
    image, unary = problem(9, 11, labels=3)
    assert not flushes_denormals()
    build(image, 3).infer(unary)
    assert not flushes_denormals()


def test_denormals_are_kept_after_an_error():
    with pytest.raises(ArithmeticError, match="range"):
        Kernel(np.full((4, 2), 1e30, np.float32), 1.0, False)
    assert not flushes_denormals()


@pytest.mark.usefixtures("flushing")
def test_denormals_are_flushed_where_they_were_flushed():
    image, unary = problem(9, 11, labels=3)
    assert flushes_denormals()
    build(image, 3).infer(unary)
    assert flushes_denormals()


def test_the_rounding_mode_is_given_back_and_does_not_move_the_lattice():
    libm = ctypes.CDLL(None)
    upward, nearest = 0x800, 0
    features = np.random.default_rng(0).random((50, 5), np.float32) * 20
    unary = np.random.default_rng(1).random((3, 50), np.float32)

    def run():
        q = np.empty_like(unary)
        mean_field(unary, (Kernel(features, 2.0, False),), 5, q)
        return q

    want = run()
    if libm.fesetround(upward) != 0:
        pytest.skip("this machine has no upward rounding under that number")
    try:
        got = run()
        assert libm.fegetround() == upward
    finally:
        libm.fesetround(nearest)
    assert np.array_equal(got, want)
