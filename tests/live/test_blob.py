"""Blob: live arrays, legacy axes, reshaping."""

import numpy as np
import pytest
import torch

from caffe_port.live.blob import ParamBlob
from caffe_port.pycaffe import Blob


def test_data_and_diff_are_live_and_float32():
    blob = Blob((2, 3))
    assert blob.data.dtype == blob.diff.dtype == np.float32
    view, diff = blob.data[0], blob.diff
    view[:] = 5
    blob.diff[1] = 2
    assert blob.data.sum() == 15
    assert diff.sum() == 6
    assert list(blob.shape) == [2, 3]
    assert blob.count == 6


def test_legacy_axes():
    blob = Blob((2, 3, 4))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 1)
    assert Blob(()).count == 1
    with pytest.raises(ValueError, match="no num"):
        _ = Blob((1,) * 5).num


def test_assigning_keeps_views_where_the_shape_stays():
    blob = Blob((2, 2))
    view = blob.data
    blob.assign(torch.ones(2, 2))
    assert view.sum() == 4
    blob.assign(torch.ones(3, 2))
    assert blob.data.shape == blob.diff.shape == (3, 2)
    assert view.shape == (2, 2)


def test_reshaping():
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.diff[...] = 1
    blob.reshape(3, 2)
    assert blob.data.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert blob.diff.shape == (3, 2)
    assert blob.diff.sum() == 6
    blob.reshape(1, 2)
    assert blob.data.shape == blob.diff.shape == (1, 2)
    with pytest.raises(ValueError, match="cannot have shape"):
        blob.reshape(-1, 2)


def test_a_parameter_is_the_torch_parameters_memory():
    param = torch.nn.Parameter(torch.zeros(2, 3))
    blob = ParamBlob(param)
    blob.data[0] = 7
    assert param.sum() == 21
    with torch.no_grad():
        param.fill_(1)
    assert blob.data.sum() == 6
    blob.diff[...] = 2
    assert param.grad is None
