"""Small nets of every kind, recorded by tools/record_caffe.py in Debian 11's Caffe 1.0, OpenBLAS.

Only what needs no files of Caffe's is there: a prototxt and a recording, with the parameters that
Caffe's fillers made.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port.cli import main

NETS = sorted(path.name for path in (Path(__file__).parent / "recorded").iterdir())


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """Verifies a recorded net, whose recording ``change`` may alter first; returns the result."""
    monkeypatch.chdir(tmp_path)

    def run(name, *options, change=None):
        folder = Path(__file__).parent / "recorded" / name
        for file in ("net.prototxt", "recording.h5"):
            shutil.copy(folder / file, file)
        if change is not None:
            with h5py.File("recording.h5", "r+") as file:
                change(file)
        return CliRunner().invoke(main, ["verify", "net.prototxt", "recording.h5", *options])

    return run


@pytest.mark.parametrize("options", [[], ["--isolate"]], ids=["whole", "isolated"])
@pytest.mark.parametrize("name", NETS)
def test_the_port_computes_what_caffe_did(verify, name, options):
    result = verify(name, *options)
    assert result.exit_code == 0, result.output


def off_by_a_thousandth(group):
    """A change of the largest element of the last blob that a layer computed."""
    given = {"data": "input", "diff": "topdiff"}[group]

    def change(file):
        for name in reversed(list(file[group])):
            values = np.array(file[group][name])
            if values.any() and name not in file[given]:
                values.reshape(-1)[np.abs(values).argmax()] *= 1.001
                file[group][name][...] = values
                digest = hashlib.sha256(values.tobytes()).hexdigest()
                file[group][name].attrs["sha256"] = np.array(digest.encode())
                return

    return change


@pytest.mark.parametrize("group", ["data", "diff"])
@pytest.mark.parametrize("name", sorted({*NETS} - {"nothing_selected"}))
def test_a_number_that_is_off_by_a_thousandth_fails(verify, name, group):
    result = verify(name, change=off_by_a_thousandth(group))
    assert result.exit_code == 1, result.output
