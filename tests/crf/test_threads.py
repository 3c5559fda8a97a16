"""Threads: the GIL is released, results do not depend on company, float state is given back."""

import ctypes
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from caffe_port.crf import DenseCRF
from caffe_port.crf._lattice import Kernel, instructions, mean_field
from tests.crf.making import problem
from tests.waiting import LIMIT


def build(image, labels, **options):
    height, width = image.shape[:2]
    crf = DenseCRF(height, width, labels, **options)
    return crf.add_gaussian(3, weight=3).add_bilateral(30, 8, image, weight=4)


def test_threads_get_the_result_of_one():
    problems = [problem(40, 50 + i, labels=5, seed=i) for i in range(4)]
    want = [build(image, 5).infer(unary) for image, unary in problems]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda p: build(p[0], 5).infer(p[1]), problems * 3))
    assert all(np.array_equal(g, w) for g, w in zip(got, want * 3, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 5), (40, 51), (70, 150)], ids=str)
@pytest.mark.parametrize("exact", [False, True])
def test_one_image_on_any_number_of_threads_gives_the_result_of_one(size, exact):
    image, unary = problem(*size, labels=5)
    want = build(image, 5, exact=exact).infer(unary)
    for threads in (2, 3, 5, 8, 20):
        crf = build(image, 5, threads=threads, exact=exact)
        assert np.array_equal(crf.infer(unary), want)
        assert np.array_equal(crf.map(unary), want.argmax(0))


@pytest.mark.parametrize("dimension", [1, 2, 3, 9])
@pytest.mark.parametrize("adjoint", [False, True])
def test_filters_both_ways_on_any_number_of_threads_give_the_result_of_one(dimension, adjoint):
    rng = np.random.default_rng(dimension)
    features = 6 * rng.random((23, 30, dimension), np.float32)
    values = rng.normal(size=(3, 23, 30)).astype(np.float32)
    want, *others = (
        DenseCRF(23, 30, 3, threads=threads)
        .add_features(features, weight=1)
        .filtered(values, 0, adjoint=adjoint)
        for threads in (1, 2, 3, 8)
    )
    assert all(np.array_equal(other, want) for other in others)


def random_configuration(seed):
    """Sizes from 1 x 1, widths from 0.5 to 500, extreme energies, constant images."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    labels = int(rng.choice([2, 3, 5, 9, 21, 40]))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if seed % 4 == 0:
        image[:] = image[0, 0]
    scale = rng.choice([0, 1, 100, 1e10, 1e30])
    unary = (scale * rng.normal(size=(labels, height, width))).astype(np.float32)
    if seed % 5 == 0:
        unary[1:, rng.random((height, width)) < 0.3] = np.inf
    widths = np.exp(rng.uniform(np.log(0.5), np.log(500), 4))

    def infer(threads):
        flavour = ("deeplab", "krahenbuhl2013")[seed % 2]
        crf = DenseCRF(height, width, labels, flavour=flavour, threads=threads)
        crf.add_gaussian(widths[:2], weight=3).add_bilateral(*widths[2:], image, weight=4)
        return crf.infer(unary, seed % 4)

    return infer


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_configurations_are_finite_and_equal_for_any_threads(first):
    for seed in range(first, first + 20):
        infer = random_configuration(seed)
        q = infer(1)
        assert np.isfinite(q).all(), seed
        assert np.abs(q.sum(0) - 1).max() < 1e-5, seed
        assert np.array_equal(infer(2), q), seed
        assert np.array_equal(infer(5), q), seed


@pytest.mark.parametrize("labels", [2, 5, 13, 21, 30, 60, 97])
def test_instruction_sets_agree(labels, choose_instructions):
    choose_instructions("best")
    image, unary = problem(30, 70, labels=labels)
    crfs = [build(image, labels, exact=exact) for exact in (False, True)]
    best = [crf.infer(unary, 5) for crf in crfs]
    assert choose_instructions("portable") == "portable"
    portable = [crf.infer(unary, 5) for crf in crfs]
    assert np.array_equal(build(image, labels, exact=True).infer(unary, 5), best[1])
    assert np.array_equal(portable[1], best[1])
    assert np.abs(portable[0] - best[0]).max() < 2e-5
    assert np.abs(best[0] - best[1]).max() < 2e-5


def test_a_missing_instruction_set_is_refused():
    with pytest.raises(ValueError, match="no instruction set 'mmx' here"):
        instructions("mmx")


def test_threads_may_share_one_crf():
    image, unary = problem(40, 50, labels=5)
    crf = build(image, 5)
    want = crf.infer(unary)
    with ThreadPoolExecutor(2) as pool:
        assert all(np.array_equal(q, want) for q in pool.map(crf.infer, [unary] * 8))


def build_a_kernel():
    features = np.random.default_rng(0).random((200, 500, 5), np.float32) * 50
    return lambda: Kernel.of_features(features, "after")


def run_mean_field():
    kernel = Kernel.of_features(np.zeros((200, 500, 2), np.float32), "after")
    unary = np.zeros((21, 200, 500), np.float32)
    return lambda: mean_field(unary, (kernel,), (1.0,), 10, q=np.empty_like(unary))


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
        # on a busy machine this thread may often get its turn too late
        assert any(seen_unfinished() for _ in range(200))
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
        Kernel.of_features(np.full((1, 4, 2), 1e30, np.float32), "after")
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
    features = np.random.default_rng(0).random((5, 10, 5), np.float32) * 20
    unary = np.random.default_rng(1).random((3, 5, 10), np.float32)

    def run():
        q = np.empty_like(unary)
        mean_field(unary, (Kernel.of_features(features, "after"),), (2.0,), 5, q=q)
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


FEW_THREADS = """
import resource
import numpy as np
from caffe_port.crf import DenseCRF
from caffe_port.errors import UsageError

image = np.zeros((40, 50, 3), np.uint8)
crf = DenseCRF(40, 50, 3, threads=8).add_gaussian(3, weight=1)
calls = [lambda: crf.infer(np.zeros((3, 40, 50), np.float32))]
calls.append(lambda: crf.add_bilateral(3, 5, image, weight=1))
line = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
most = 1024 * int(line.split()[1]) + (28 << 20)  # stacks of two or three threads
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for call in calls:
    try:
        call()
    except UsageError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="its way to limit memory")
def test_too_few_threads_of_the_system_are_an_error_and_not_a_crash():
    found = subprocess.run(
        [sys.executable, "-c", FEW_THREADS],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("ask for fewer") == 2
