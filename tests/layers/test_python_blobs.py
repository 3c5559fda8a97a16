"""What Python layers do with their blobs: kept from setup, filled in setup, written in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_port
import caffe_port.pycaffe as caffe
from tools import live_nets


@pytest.fixture(autouse=True)
def _layers() -> None:
    from caffe_port.pycaffe import alias

    alias.install()
    live_nets.define_layers()


def write(folder: Path, kind: str) -> Path:
    """A Python layer and a Power that doubles, both of x."""
    path = folder / "net.prototxt"
    path.write_text(
        'force_backward: true input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "p" type: "Python" bottom: "x" top: "p"\n'
        f'  python_param {{ module: "live_layers" layer: "{kind}" }} }}\n'
        'layer { name: "d" type: "Power" bottom: "x" top: "d" power_param { scale: 2 } }\n'
    )
    return path


X = np.array([[1, -2, 0.25], [0, 3, -0.25]], np.float32)
CLIPPED = np.clip(X, -0.5, 0.5)
CONSTANT = np.arange(6).reshape(2, 3) % 7 - 3


@pytest.mark.parametrize(
    ("kind", "p", "d"),
    [("Scaled", 3 * X, 2 * X), ("Constant", CONSTANT, 2 * X), ("Clipping", CLIPPED, 2 * CLIPPED)],
)
def test_both_kinds_of_nets_give_the_same(tmp_path: Path, kind: str, p: object, d: object) -> None:
    path = write(tmp_path, kind)
    net = caffe_port.load(path, allow_python_layers=True)
    given = torch.from_numpy(X.copy())
    for _ in range(2):
        out = net({"x": given})
        assert np.array_equal(out["p"].detach(), p)
        assert np.array_equal(out["d"].detach(), d)
    assert np.array_equal(given, X)  # the caller's own is never written into
    wide = net.double()({"x": given.double()})
    assert wide["p"].dtype == torch.float64
    assert np.array_equal(wide["p"].detach(), p)
    caffe.allow_python_layers()
    live = caffe.Net(str(path), caffe.TEST)
    caffe.allow_python_layers(False)
    found = live.forward(x=X)
    assert np.array_equal(found["p"], p)
    assert np.array_equal(found["d"], d)


def test_backward_after_another_forward(tmp_path: Path) -> None:
    net = caffe_port.load(write(tmp_path, "Scaled"), allow_python_layers=True)
    first, second = (torch.full((2, 3), value, requires_grad=True) for value in (1.0, 2.0))
    a, b = (net({"x": x})["p"] for x in (first, second))
    (a * 5).sum().backward()
    b.sum().backward()
    assert (first.grad == 15).all()
    assert (second.grad == 3).all()


def test_nets_made_of_one_spec_have_blobs_of_their_own(tmp_path: Path) -> None:
    spec = caffe_port.NetSpec.read(write(tmp_path, "Constant"), allow_python_layers=True)
    first, second = caffe_port.Net(spec), caffe_port.Net(spec)
    assert first.module("p").tops[0] is not second.module("p").tops[0]
    assert np.array_equal(second({"x": torch.ones(2, 3)})["p"], CONSTANT)


def test_neighbours_are_given_the_same_blob(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    python = 'python_param {{ module: "live_layers" layer: "{}" }} }}\n'
    path.write_text(
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "c" type: "Python" bottom: "x" top: "c" ' + python.format("Constant")
        + 'layer { name: "s" type: "Python" bottom: "c" top: "s" ' + python.format("Scaled")
    )  # fmt: skip
    caffe.allow_python_layers()
    net = caffe.Net(str(path), caffe.TEST)
    caffe.allow_python_layers(False)
    assert net.layers[2].source is net.blobs["c"]
    assert np.array_equal(net.forward()["s"], 3 * CONSTANT)
