"""Settings of all tests."""

import atexit
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run: a failure is the change's doing, and can be had again.
# How long they take depends on the machine, and fails nothing.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

# Triton's kernels run in its interpreter, on the CPU; it reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"

# What the tests measure of engines is not the user's.
os.environ["CAFFE_PORT_CACHE"] = tempfile.mkdtemp(prefix="caffe_port-tests-")
atexit.register(shutil.rmtree, os.environ["CAFFE_PORT_CACHE"], ignore_errors=True)

# Begun in the background of a shell, this process ignores Ctrl-C, and so would those it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What `make processors` sets, next to the variables that torch, oneDNN and MKL read themselves.
if os.environ.get("CAFFE_PORT_TEST_ONEDNN") == "off":
    import torch

    torch.backends.mkldnn.set_flags(False)
if path := os.environ.get("CAFFE_PORT_TEST_CRF"):
    from caffe_port.crf._lattice import instructions

    instructions(path)

# Folders and files whose tests compare numbers that were computed here: with Caffe's recordings,
# with a reference, or with those of other code. `make processors` runs them.
PARITY = {
    "crf", "export", "inference", "layers", "live", "losses", "parity", "pycaffe",
    "solver", "test_any_net.py", "test_net.py", "test_nets.py", "test_pascal_flow.py", "unravel",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Marks the tests of those folders and files; any other test may have the mark itself."""
    for item in items:
        if "tensor(" in item.name:
            raise pytest.UsageError(f"{item.nodeid}: drawn values in its name; give it an id")
        if item.path.relative_to(Path(__file__).parent).parts[0] in PARITY:
            item.add_marker("parity")


def pytest_runtest_setup():
    """Every test draws the same numbers, whatever ran before it in its process."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _checked_only(file):
    """In place of os.fsync: no test cuts the power, and waiting for the disk takes seconds."""
    os.fstat(file if isinstance(file, int) else file.fileno())


os.fsync = _checked_only

# Tests are thousands of objects that all stay: searching them for garbage takes seconds.
gc.disable()


def pytest_collection_finish():
    """Collects garbage from now on, but not among the tests."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Collects the garbage of each file once; what is left are modules and caches, which stay.

    Half a million objects of torch's compiler and of ONNX took a quarter of a second to search,
    hundreds of times.
    """
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            gc.collect()
            gc.freeze()
