"""Any number of items through a net of a fixed batch."""

from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from tests.pycaffe.nets import IMAGES, write


@pytest.fixture
def net(tmp_path: Path) -> caffe.Net:
    return caffe.Net(write(tmp_path / "n.prototxt", "force_backward: true " + IMAGES), caffe.TEST)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_forward_all(net: caffe.Net, count: int) -> None:
    data = np.random.default_rng(0).random((count, 3, 8, 8)).astype(np.float32)
    found = net.forward_all(blobs=["conv"], data=data)
    assert set(found) == {"prob", "conv"}
    net.blobs["data"].reshape(count, 3, 8, 8)
    wanted = net.forward(data=data)["prob"]
    np.testing.assert_allclose(found["prob"], wanted, rtol=1e-5)
    assert found["conv"].shape == (count, 5, 1, 1)


def test_forward_backward_all(net: caffe.Net) -> None:
    random = np.random.default_rng(0)
    data = random.random((6, 3, 8, 8)).astype(np.float32)
    diff = random.random((6, 5)).astype(np.float32)
    found, diffs = net.forward_backward_all(diffs=["flat"], data=data, prob=diff)
    assert (set(found), set(diffs)) == ({"prob"}, {"data", "flat"})
    net.blobs["data"].reshape(6, 3, 8, 8)
    np.testing.assert_allclose(found["prob"], net.forward(data=data)["prob"], rtol=1e-5)
    wanted = net.backward(prob=diff)["data"]
    np.testing.assert_allclose(diffs["data"], wanted, rtol=1e-4, atol=1e-6)
