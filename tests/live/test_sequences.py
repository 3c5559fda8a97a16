"""Writes into live blobs between partial forwards and backwards, as real Caffe saw them.

The bundled sequences were recorded by tools/record_live.py. Where CAFFE_PORT_CAFFE is the command
of a Python with pycaffe, such as `chroot /srv/debian python3`, new ones are recorded and compared.
"""

from __future__ import annotations

import io
import json
import os
import random
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from caffe_port.parity.tolerance import UNIT
from caffe_port.pycaffe import alias
from tests.goldens_dir import GOLDENS, ROOT
from tools import live_nets, record_live

BUNDLED = np.load(GOLDENS / "live" / "sequences.npz")
# Stale numbers differ by much of the peak. Roundings of these nets stay below 200 units of it, and
# below 16 units of the largest number in the net where large numbers have cancelled.
OF_PEAK, OF_LARGEST = 200 * UNIT, 16 * UNIT


@pytest.fixture(autouse=True)
def _python_layers() -> Iterator[None]:
    alias.install()
    caffe.allow_python_layers()
    yield
    caffe.allow_python_layers(False)


def numbers(recorded: Any) -> list[int]:
    return sorted({int(name.partition("/")[0]) for name in recorded})


def repeat(recorded: Any, number: int) -> None:
    """Does what was recorded and compares every array after every action."""
    meta = json.loads(str(recorded[f"{number}/meta"]))
    net = record_live.open_net(caffe, meta["net"], meta["phase"], meta["seed"])
    record_live.start(net)
    expected = record_live.state(net)
    for step, action in enumerate(meta["actions"]):
        record_live.act(net, action)
        for name in expected:
            expected[name] = recorded.get(f"{number}/{step}/{name}", expected[name])
        for name, found in record_live.state(net).items():
            where = f"sequence {number}, action {step} {action}: {name}\n{meta['net']}"
            kind = name.partition("/")[0]
            largest = max(peak(v) for n, v in expected.items() if n.partition("/")[0] == kind)
            compare(found, expected[name], largest, where)


def peak(values: Any) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0))


def compare(found: Any, expected: Any, largest: float, where: str) -> None:
    assert found.shape == expected.shape, where
    allowed = max(OF_PEAK * peak(expected), OF_LARGEST * largest)
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=where)


@pytest.mark.parametrize("number", numbers(BUNDLED))
def test_bundled_sequences(number: int) -> None:
    repeat(BUNDLED, number)


def test_the_bundled_sequences_use_every_layer_of_the_tool() -> None:
    texts = "".join(str(BUNDLED[f"{number}/meta"]) for number in numbers(BUNDLED))
    kinds = live_nets.NEURONS + live_nets.OTHERS + live_nets.JOINS
    kinds += [what for _, what in live_nets.LOSSES if what]
    missing = {kind.split()[0] for kind in kinds if f"'{kind.split()[0]}'" not in texts}
    assert not missing


@pytest.mark.skipif("CAFFE_PORT_CAFFE" not in os.environ, reason="CAFFE_PORT_CAFFE is not set")
def test_new_sequences() -> None:
    nets, tool = (
        (ROOT / "tools" / name).read_text() for name in ("live_nets.py", "record_live.py")
    )
    script = (
        "import sys, types\n"
        "sys.modules['live_nets'] = types.ModuleType('live_nets')\n"
        f"exec({nets!r}, sys.modules['live_nets'].__dict__)\n"
        f"exec({tool!r})\n"
    )
    first = random.SystemRandom().randrange(10**6)
    command = [*shlex.split(os.environ["CAFFE_PORT_CAFFE"]), "-", str(first), str(first + 40)]
    done = subprocess.run(command, input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    recorded = np.load(io.BytesIO(done.stdout))
    for number in numbers(recorded):
        repeat(recorded, number)
