"""Every kernel compiles for GPUs that are not here, and fits them."""

import json
import os
import sys

import pytest

from tests import preloaded

pytest.importorskip("triton", minversion="3.7", reason="older ones spill some registers")


SCRIPT = """
import json, torch
from caffe_port.losses.ahead_of_time import resources, table
every = table(dtypes=(torch.float32,))
# of other dtypes those that keep the most
for name in ("float16 similar", "float64 similar", "float64 template_gradients"):
    dtype, kernel = name.split()
    every["sm_80 " + name] = resources(kernel, getattr(torch, dtype), 80)
print(json.dumps(every))
"""


@pytest.fixture(scope="module")
def table():
    """Compiled in a process of its own, where the interpreter is off."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = preloaded.run([sys.executable, "-c", SCRIPT], env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_kernel_is_compiled_for_each_gpu(table):
    assert len(table) == 3 * 8 + 3
    assert {name.split()[0] for name in table} == {"sm_80", "sm_90", "sm_100"}


def test_nothing_is_spilled(table):
    """What does not fit the registers goes to the stack and local memory."""
    assert {name: r for name, r in table.items() if r["stack"] + r["local"]} == {}


def test_two_blocks_of_four_warps_fit_a_multiprocessor(table):
    """65,536 registers, of which no thread takes all 255, and 48 KiB of shared memory a block."""
    assert {name: r for name, r in table.items() if not 0 < r["registers"] <= 224} == {}
    assert {name: r for name, r in table.items() if r["shared"] > 48 * 1024} == {}


def test_three_blocks_fit_in_float32(table):
    float32 = {name: r["registers"] for name, r in table.items() if " float32 " in name}
    assert max(float32.values()) <= 168  # 3 blocks of 128 threads
