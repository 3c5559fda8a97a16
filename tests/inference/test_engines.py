"""Engines of an optimized net: results, fallbacks, and what is remembered of measurements."""

import ctypes
import gc
import json
import os
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from caffe_port.errors import EngineWarning, LayerError, UsageError
from caffe_port.inference import choice, engines, optimized
from caffe_port.inference.choice import Question
from tests.goldens_dir import ROOT
from tests.inference.test_optimized import BLOCK, _net, _same, _x
from tests.layers.helpers import net_of
from tests.second_device import second_device
from tests.spec.making import conv, layer

# with such a limit OpenVINO would end the process, and is refused
LIMITED = engines.isa_limit()[1].upper() in engines.BELOW_AVX2
OTHERS = [x for x in engines.installed() if x != "torch" and not (x == "openvino" and LIMITED)]
each_engine = pytest.mark.parametrize("engine", OTHERS)
with_engine = pytest.mark.skipif(not OTHERS, reason="neither onnxruntime nor openvino")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("CAFFE_PORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_in_process", {})


@pytest.fixture(autouse=True)
def two_threads():
    """As in a user's process; OMP_NUM_THREADS may have set another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _sessions(fast):
    return [engine for _, engine in fast._sessions]


@each_engine
def test_the_same_at_every_size_with_one_session(engine):
    net = _net(BLOCK)
    fast = net.optimized(engine=engine)
    for shape in ((2, 3, 9, 7), (1, 3, 5, 5), (4, 3, 12, 8)):
        _same(fast(_x(shape)), net, _x(shape))
    assert _sessions(fast) == [engine]
    assert not fast._programs


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    @classmethod
    def of_this_thread(cls):
        found = cls()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
        return found.start, found.size


@pytest.mark.skipif("openvino" not in OTHERS, reason="openvino is not installed")
def test_signals_have_a_stack_when_engines_are_gone():
    """Another stack would be freed memory: Ctrl-C would end the process without a message."""
    engines.openvino_core().available_devices  # noqa: B018  (its plugin is loaded)
    before = SignalStack.of_this_thread()
    running = [_net(BLOCK).optimized(engine="openvino") for _ in range(3)]
    for fast in running:
        fast(_x())
    while running:
        del running[0]
        gc.collect()
        assert SignalStack.of_this_thread() == before


@each_engine
def test_kept_blobs(engine):
    net = _net(BLOCK)
    fast = net.optimized(engine=engine)
    for keep in (["c"], ["s", "c"], ["d"], "all", "outputs"):
        found = fast(_x(), keep=keep)
        _same(found, net, _x(), keep=keep)
        assert all(blob.is_contiguous() and not blob.requires_grad for blob in found.values())
    assert _sessions(fast) == [engine] * 4


@each_engine
def test_labels(engine):
    net = _net(conv("c", "b0") + layer("i", "Interp", "c", more="interp_param { zoom_factor: 4 }"))
    found = net.optimized(engine=engine).labels(_x(), size=(20, 10))
    with torch.no_grad():
        assert torch.equal(found, net(_x())["i"][:, :, :20, :10].argmax(1).byte())


@each_engine
def test_what_no_engine_has_is_computed_by_torch(engine):
    hooked, double, train = _net(BLOCK), _net(BLOCK).double(), net_of(BLOCK, (2, 3, 9, 7),
                                                                     phase="TRAIN")  # fmt: skip
    hooked.module("c").register_forward_hook(lambda *_: None)
    for net, x in ((hooked, _x()), (double, _x().double())):
        fast = net.optimized(engine=engine)
        _same(fast(x), net, x)
        assert fast.engine(x) == "torch"
        assert not fast._sessions
    with pytest.warns(EngineWarning, match=f"torch computes in place of {engine}: the net is of"):
        train.optimized(engine=engine)(_x())
    fast = _net(BLOCK).optimized(engine=engine)
    with pytest.warns(EngineWarning, match="'b0' is"), pytest.raises(LayerError, match="layer 'c'"):
        fast(_x((1, 5, 9, 7)))
    with pytest.warns(EngineWarning, match="kept blob is not computed"):
        assert torch.equal(fast(_x(), keep=["b0"])["b0"], _x())


@each_engine
def test_sizes_that_the_net_does_not_take(engine):
    net = _net(conv("c", "b0") + layer("f", "InnerProduct", "c", more="inner_product_param { "
               'num_output: 2 weight_filler { type: "xavier" } }'))  # fmt: skip
    fast = net.optimized(engine=engine)
    _same(fast(_x((5, 3, 9, 7))), net, _x((5, 3, 9, 7)))
    with pytest.warns(EngineWarning, match="'b0' is"), pytest.raises(LayerError):
        fast(_x((1, 3, 10, 7)))


@each_engine
def test_a_failing_engine_is_replaced_once(engine, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("broken library")

    monkeypatch.setattr(engines.Session, "run", fail)
    net = _net(BLOCK)
    fast = net.optimized(engine=engine)
    with pytest.warns(EngineWarning, match=f"in place of {engine}: RuntimeError: broken library"):
        _same(fast(_x()), net, _x())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _same(fast(_x()), net, _x())


@each_engine
def test_threads_compute_concurrently(engine):
    torch.set_num_threads(1)
    net = _net(BLOCK)
    fast = net.optimized(engine=engine)
    alone = [fast(_x(seed=seed))["s"] for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: fast(_x(seed=seed))["s"], range(8)))
    assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


@each_engine
def test_results_stay_as_they_were(engine):
    fast = _net(BLOCK).optimized(engine=engine)
    first = fast(_x())["s"]
    copy = first.clone()
    fast(_x(seed=1))
    assert torch.equal(first, copy)


@each_engine
def test_changed_parameters_are_followed(engine):
    net = _net(conv("c", "b0", options="num_output: 40 kernel_size: 3") + layer("t", "TanH", "c"))
    fast = net.optimized(engine=engine)
    fast(_x())
    with torch.no_grad():
        net.layer_params("c")[0].mul_(-0.5)
    _same(fast(_x()), net, _x())
    net.layer_params("c")[0].detach().numpy()[...] *= 2
    fast.refresh()
    _same(fast(_x()), net, _x())


@each_engine
def test_each_number_of_threads_has_its_session(engine):
    fast = _net(BLOCK).optimized(engine=engine)
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        fast(_x())
    assert [made.threads for made, _ in fast._sessions] == [1, 2]


def test_wrong_engines(monkeypatch):
    net = _net(BLOCK)
    with pytest.raises(UsageError, match="engine is 'opencv'; expected one of auto, torch"):
        net.optimized(engine="opencv")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"openvino needs .* pip install 'caffe-port\[engines\]'"):
        net.optimized(engine="openvino")
    fast = net.optimized()
    _same(fast(_x()), net, _x())
    assert not fast._sessions
    assert not choice.memory().exists()


@with_engine
def test_options_of_torch_alone():
    with pytest.raises(UsageError, match="options of the engine torch"):
        _net(BLOCK).optimized(fold=False, engine=OTHERS[0])
    fast = _net(BLOCK).optimized(fold=False)
    assert fast.engine(_x()) == "torch"


def _prefer(monkeypatch, fastest):
    """Measurements in which this engine is the fastest."""
    calls = []

    def measured(ways, threads):
        calls.append(list(ways))
        for way in ways.values():
            way()
        return {engine: 1.0 - (engine == fastest) / 2 for engine in ways}

    monkeypatch.setattr(optimized, "measure", measured)
    return calls


@each_engine
@pytest.mark.skipif(LIMITED, reason="OpenVINO is refused with this limit of instructions")
def test_a_measurement_is_remembered(engine, monkeypatch):
    calls = _prefer(monkeypatch, engine)
    net = _net(BLOCK)
    fast = net.optimized()
    for _ in range(2):
        _same(fast(_x()), net, _x())
    assert calls == [engines.installed()]
    assert _sessions(fast) == [engine]
    assert not fast._programs
    monkeypatch.setattr(choice, "_in_process", {})  # as in another process
    assert _net(BLOCK).optimized().engine(_x()) == engine
    assert _net(BLOCK).optimized().engine(_x((2, 3, 12, 9))) == engine  # nearly the same size
    assert len(calls) == 1
    for shape in ((1, 3, 9, 7), (2, 3, 40, 40)):
        _net(BLOCK).optimized()(_x(shape))
    torch.set_num_threads(1)
    _net(BLOCK).optimized()(_x())
    _net(BLOCK).optimized()(_x(), keep=["c"])
    assert len(calls) == 5


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\x00", b"[1, null, {}]", b'{"engine": "torch"}', b"[" * 10**5,
     b'[{"subject": "a", "sizes": [["x", [0]]], "engine": "torch"}]'],
)  # fmt: skip
def test_a_damaged_memory_is_replaced(content):
    choice.memory().parent.mkdir(parents=True)
    choice.memory().write_bytes(content)
    question = Question("net", (("data", (1, 3, 9, 9)),))
    assert choice.remembered(question) is None
    choice.remember(question, "torch", {"torch": 0.5})
    choice._in_process.clear()
    assert choice.remembered(question) == "torch"


def test_an_engine_that_is_gone_is_not_remembered(monkeypatch):
    question = Question("net", (("data", (1, 3, 9, 9)),))
    choice.remember(question, "openvino", {})
    monkeypatch.setattr(choice, "installed", lambda: ["torch"])
    assert choice.remembered(question) is None


def test_a_memory_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CAFFE_PORT_CACHE", str(tmp_path / "file"))
    question = Question("net", (("data", (1, 3, 9, 9)),))
    choice.remember(question, "torch", {})
    assert choice.remembered(question) == "torch"


def test_the_memory_keeps_the_latest(monkeypatch):
    monkeypatch.setattr(choice, "_MOST", 3)
    for number in range(5):
        choice.remember(Question(str(number), ()), "torch", {})
    assert [entry["subject"] for entry in json.loads(choice.memory().read_text())] == list("234")


def test_wrong_and_failing_ways_are_refused():
    right = {"s": torch.tensor([1.0, -2.0, float(np.float32(0.1))])}

    def fail():
        raise RuntimeError("no such kernel")

    def unsuitable():
        raise engines.UnsuitableError

    ways = {
        "torch": lambda: right,
        "close": lambda: {"s": right["s"] + 1e-5},
        "wrong": lambda: {"s": right["s"] + 1e-3},
        "nan": lambda: {"s": right["s"] * float("nan")},
        "failing": fail,
        "unsuitable": unsuitable,
    }
    with pytest.warns(EngineWarning) as caught:
        seconds = choice.measure(ways, 1)
    assert set(seconds) == {"torch", "close"}
    assert all(0 <= value < 60 for value in seconds.values())
    texts = [str(one.message) for one in caught]
    assert len(texts) == 3
    assert "wrong is not used: its 's' differs from torch's by 1.0e-03" in texts[0]
    assert "no such kernel" in texts[2]


def test_the_processor_is_named():
    assert "cores" in choice.processor()


IMPORTS = """
import pathlib, warnings, torch, caffe_port
from tests.inference.test_optimized import BLOCK, _net, _x
for engine in {0!r}:
    _net(BLOCK).optimized(engine=engine)(_x())
print([str(path) for path in pathlib.Path.home().rglob("*") if path.is_file()])
"""


@with_engine
def test_engines_write_no_telemetry(tmp_path):
    """Both write identifiers and databases into the user's home when they are imported as usual."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("ORT_", "XDG_", "CI"))}  # fmt: skip
    run = [sys.executable, "-c", IMPORTS.format(OTHERS)]
    env = kept | {"HOME": str(tmp_path)}
    found = subprocess.run(run, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["[]"]


MVN = layer("out", "MVN", "b0")
LIMITS = """
import os, sys, warnings
from tests.inference.test_engines import BLOCK, MVN, _net, _same, _x
os.environ["ONEDNN_MAX_CPU_ISA"] = sys.argv[1]
from caffe_port.errors import EngineWarning
net = _net({"BLOCK": BLOCK, "MVN": MVN}[sys.argv[2]])
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    _same(net.optimized(engine="openvino")(_x()), net, _x())
print([str(warning.message) for warning in found if warning.category is EngineWarning])
"""


@pytest.mark.skipif("openvino" not in OTHERS, reason="openvino is not installed")
@pytest.mark.parametrize(("limit", "kind"), [("AVX2", "MVN"), ("SSE41", "BLOCK")])
def test_openvino_is_refused_where_a_limit_would_end_the_process(limit, kind):
    run = [sys.executable, "-c", LIMITS, limit, kind]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"would end the process with ONEDNN_MAX_CPU_ISA={limit}; unset" in found.stdout


@each_engine
def test_a_session_ends_with_its_last_reference(engine):
    """One in a cycle would keep its copy of the parameters until the next collection."""
    fast = _net(BLOCK).optimized(engine=engine)
    fast(_x())
    (session,) = fast._sessions.values()
    gone = weakref.ref(session._run)
    del session
    gc.disable()
    try:
        fast.refresh()
        assert gone() is None
    finally:
        gc.enable()


SIZES = """
import re
from pathlib import Path
from tests.inference.test_engines import _net, _x, conv

def resident():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

net = _net("".join(conv(f"c{i}", f"c{i - 1}" if i else "b0") for i in range(3)))
fast, sides = net.optimized(engine="onnxruntime"), range(600, 1100, 25)
fast(_x((1, 3, 20, 20)))
before = resident()
for side in sides:
    fast(_x((1, 3, side, side)))
print((resident() - before) / (3 * 4 * sides[-1] ** 2))
"""


@pytest.mark.skipif("onnxruntime" not in OTHERS, reason="onnxruntime is not installed")
def test_memory_does_not_grow_with_the_sizes():
    """Two blobs of 3 channels in blocks of 8 or 16 are some 12 times the largest one's bytes; an
    arena that keeps those of each size holds some 70."""
    run = [sys.executable, "-c", SIZES]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(found.stdout) < 20


def test_no_engine_is_measured_for_another_device(monkeypatch):
    """A net without parameters has no device; its input has."""
    monkeypatch.setattr(optimized, "installed", lambda: ("torch", "onnxruntime"))
    monkeypatch.setattr(optimized, "measure", lambda *_: pytest.fail("measured"))
    fast = net_of(layer("r", "ReLU", "b0", "y"), (1, 3, 4, 4)).optimized()
    with second_device() as device:
        x = torch.randn(1, 3, 4, 4).to(device)
        assert fast.engine({"b0": x}) == "torch"
        assert torch.equal(fast({"b0": x})["y"].cpu(), x.cpu().relu())
