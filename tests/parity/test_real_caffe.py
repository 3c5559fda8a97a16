"""tools/record_caffe.py inside a real Caffe, verify outside; docs/record.md says how to get one.

CAFFE_PORT_REAL_CAFFE is the command of a Python that can import caffe, such as
``chroot caffe-root python3`` or ``docker run -i IMAGE python3``. Files travel through its standard
input and output.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.parity.recording import read_recording
from tests.spec.making import layer

CAFFE = shlex.split(os.environ.get("CAFFE_PORT_REAL_CAFFE", ""))
TOOL = Path(__file__).parents[2] / "tools" / "record_caffe.py"
pytestmark = pytest.mark.skipif(not CAFFE, reason="CAFFE_PORT_REAL_CAFFE names no Caffe")

# unpacks the files, records, and packs what there is: both Pythons read it
INSIDE = """
import io, os, subprocess, sys, tarfile, tempfile
os.chdir(tempfile.mkdtemp())
stream = io.BytesIO(getattr(sys.stdin, "buffer", sys.stdin).read())
tarfile.open(fileobj=stream).extractall()
with open("log", "wb") as log:
    environment = dict(os.environ, GLOG_minloglevel="2", PYTHONPATH=".")
    command = [sys.executable, "record_caffe.py"] + sys.argv[1:]
    status = subprocess.call(command, stdout=log, stderr=log, env=environment)
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as archive:
    for name in ["log"] + [name for name in os.listdir(".") if name.startswith("r.h5")]:
        archive.add(name)
getattr(sys.stdout, "buffer", sys.stdout).write(packed.getvalue())
sys.exit(status)
"""


def filled(std):
    return f'weight_filler {{ type: "gaussian" std: {std} }}'


FORCE = "force_backward: true\n"
DATA = 'input: "data" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }\n'
LABEL = 'input: "label" input_shape { dim: 2 }\n'
CONV = layer("conv", "Convolution", "data", more=f"""
    convolution_param {{ num_output: 4 kernel_size: 3 {filled(0.3)} }}""")  # fmt: skip
RELU = layer("relu", "ReLU", "conv", "conv")
IP = layer("ip", "InnerProduct", "conv", more=f"""
    inner_product_param {{ num_output: 5 {filled(0.1)} }}""")  # fmt: skip
NET = CONV + RELU + IP
LOSS = layer("loss", "SoftmaxWithLoss", "ip label")
ACCURACY = layer("accuracy", "Accuracy", "ip label")
MEMORY = layer("mem", "MemoryData", "", "data label", """
    memory_data_param { batch_size: 2 channels: 3 height: 8 width: 8 }""")  # fmt: skip
HDF5 = layer("read", "HDF5Data", "", "data label", """
    hdf5_data_param { source: "list.txt" batch_size: 2 }""")  # fmt: skip
HALF = layer("half", "Power", "data", "data", "power_param { scale: 0.5 }")
BATCH_NORM = layer("bn", "BatchNorm", "conv", "conv")
PYTHON = layer("twice", "Python", "conv", more="""
    python_param { module: "twice" layer: "Twice" }""")  # fmt: skip
EMBED = layer("words", "Embed", "label", more=f"""
    embed_param {{ num_output: 2 input_dim: 5 {filled(1)} }}""")  # fmt: skip
REDUCE = layer("sum", "Reduction", "vector", more="reduction_param { operation: SUMSQ }")
TWICE = """
import caffe
class Twice(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, down, bottom): bottom[0].diff[...] = 2 * top[0].diff
"""


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Records a net in Caffe; returns the exit status and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    generator = np.random.default_rng(3)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "twice.py").write_text(TWICE)
    (tmp_path / "twice.py").write_text(TWICE)
    (inside / "list.txt").write_text("data.h5\n")
    with h5py.File(inside / "data.h5", "w") as file:
        file["data"] = generator.standard_normal((4, 3, 8, 8)).astype(np.float32)
        file["label"] = np.arange(4, dtype=np.float32)
    np.save(inside / "large.npy", generator.standard_normal((1, 3, 12, 10)))
    pixels = generator.integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(inside / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(inside / "grey.png")
    (inside / "record_caffe.py").write_bytes(TOOL.read_bytes())

    def run(text, *arguments):
        (inside / "net.prototxt").write_text(text)
        (tmp_path / "net.prototxt").write_text(text)
        sent = io.BytesIO()
        with tarfile.open(fileobj=sent, mode="w") as archive:
            archive.add(inside, ".")
        command = [*CAFFE, "-c", INSIDE, "net.prototxt", "-o", "r.h5", *arguments]
        result = subprocess.run(command, input=sent.getvalue(), capture_output=True, check=False)
        with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
            for member in archive:
                (tmp_path / Path(member.name).name).write_bytes(archive.extractfile(member).read())
        return result.returncode, (tmp_path / "log").read_text()

    return run


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (DATA + NET, "--random data"),
        (DATA + NET, "--random data --blobs conv,ip"),
        (DATA + CONV, "--array data=large.npy"),
        (DATA + CONV, "--image data=a.png --image data=grey.png --mean 104,117,123"),
        (DATA.replace("dim: 3", "dim: 1") + CONV, "--image data=a.png --image data=grey.png"),
        (FORCE + DATA + NET, "--random data --backward"),
        (DATA + LABEL + NET + LOSS, "--random data --labels label=5 --backward --phase TRAIN"),
        (FORCE + DATA + LABEL + NET + LOSS + ACCURACY,
         "--random data --labels label=5 --backward"),
        (FORCE + MEMORY + NET + LOSS, "--random data --labels label=5 --backward"),
        (HDF5 + NET + LOSS, "--backward"),
        (FORCE + HDF5 + HALF + NET + LOSS, "--backward"),
        (DATA + CONV.replace("kernel_size", "bias_term: false kernel_size") + BATCH_NORM,
         "--random data --phase TRAIN"),
        (FORCE + DATA + CONV + PYTHON, "--random data --backward"),
        (LABEL + EMBED, "--labels label=5"),
        (FORCE + 'input: "vector" input_shape { dim: 7 }\n' + REDUCE, "--random vector --backward"),
    ],
)  # fmt: skip
def test_a_recorded_net_verifies(record, text, arguments):
    status, log = record(text, *arguments.split())
    assert status == 0, log
    result = CliRunner().invoke(main, ["verify", "net.prototxt", "r.h5", "--allow-python-layers"])
    assert result.exit_code == 0, result.output


def test_diffs_are_what_caffe_computed(record):
    assert record(FORCE + DATA + NET, "--random", "data", "--backward")[0] == 0
    found = read_recording("r.h5")
    ip = found.params["ip", 0].reshape(5, 4, 6, 6).astype(np.float64)
    wanted = np.einsum("no,ochw->nchw", found.topdiffs["ip"], ip)
    assert np.abs(wanted).max() > 0.1
    # Caffe's diff of a blob that a layer works on in place is that of the first writer's output
    mask = found.data["conv"] > 0
    np.testing.assert_allclose(found.diffs["conv"], wanted * mask, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        (DATA + NET, "--random data --backward", "Add force_backward: true to"),
        (FORCE + DATA + LABEL + NET + ACCURACY, "--random data --labels label=5 --backward",
         "no output has a backward pass"),
        (MEMORY + NET, "--random data", "set input 'label'"),
        (MEMORY + NET, "--array data=large.npy --labels label=5", "of shape (2, 3, 8, 8) with 2"),
        (HDF5 + NET, "--random data", "a data layer fills 'data'"),
        (DATA + LABEL + NET + LOSS, "--random data --random label", "use --labels label=N"),
        (DATA + IP, "--random data", "in the set-up of the net: its message is above"),
        (FORCE + LABEL + EMBED, "--labels label=5 --backward",
         "in the backward pass of layer 'words' (Embed)"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_explained(record, text, arguments, reason):
    status, log = record(text, *arguments.split())
    assert status == 1
    assert reason in log
    assert not list(Path().glob("r.h5*"))
