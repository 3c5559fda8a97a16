"""Process-wide settings and small tools of the module."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import caffe_port.pycaffe as caffe
from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.pycaffe import _caffe


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "_process", mode._Process())


def test_without_a_gpu_the_mode_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    caffe.set_device(3)
    with pytest.warns(UserWarning, match="computing on the CPU"):
        caffe.set_mode_gpu()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caffe.set_mode_gpu()
    assert mode.device() == torch.device("cpu")


def test_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    caffe.set_device(1)
    caffe.set_mode_gpu()
    assert mode.device() == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="there are 2 GPUs"):
        caffe.set_device(2)
    caffe.set_mode_cpu()
    assert mode.device() == torch.device("cpu")


def test_ranks() -> None:
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(4)
    caffe.set_solver_rank(2)
    caffe.set_multiprocess(True)
    assert (caffe.solver_count(), caffe.solver_rank()) == (4, 2)


def test_the_seed_gives_caffes_numbers() -> None:
    from caffe_port.data import rng

    with mode.building():
        assert rng.current() is None
    caffe.set_random_seed(3)
    with mode.building():
        first = rng.current().draw()
    caffe.set_random_seed(3)
    with mode.building():
        assert rng.current().draw() == first
    assert first == int.from_bytes(np.random.RandomState(3).bytes(4), "little")


def test_the_callers_generator_has_precedence() -> None:
    from caffe_port.data import rng

    caffe.set_random_seed(3)
    own = rng.CaffeRandom(4)
    with rng.seeded(own), mode.building():
        assert rng.current() is own


def test_layer_types() -> None:
    assert {"Data", "Convolution", "InnerProduct", "Python"} <= set(caffe.layer_type_list())


def test_nccl_is_missing() -> None:
    assert caffe.has_nccl() is False
    with pytest.raises(UsageError, match=r"has_nccl\(\) is False"):
        caffe.NCCL(None, "uid")


def test_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.25])
    monkeypatch.setattr(_caffe, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    assert timer.ms == 0
    timer.stop()
    assert timer.ms == 250


def test_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from caffe_port.solver import log

    monkeypatch.setattr(log, "_level", [])
    caffe.init_log(0, True)
    caffe.log("hello")
    caffe.init_log(1)
    caffe.log("unseen")
    assert capsys.readouterr().err.endswith("] hello\n")


def test_version() -> None:
    assert caffe.__version__ == "1.0.0"
