"""Coordinate maps by hand, and the crops of FCN."""
# ruff: noqa: C408, N812 - written as pycaffe's users write

import numpy as np
import pytest

from caffe_port.pycaffe import layers as L
from caffe_port.pycaffe.coord_map import (
    AxisMismatchException,
    Top,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)


def fcn(pad: int = 100, stride: int = 4, kernel: int = 8) -> tuple[Top, Top]:
    """A picture and scores at its scale, after two poolings."""
    data = L.Input()
    conv = L.ReLU(L.Convolution(data, kernel_size=3, pad=pad), in_place=True)
    pool = L.Pooling(L.Pooling(conv, kernel_size=2, stride=2), kernel_size=2, stride=2)
    fc = L.Convolution(pool, convolution_param=dict(kernel_size=7))
    return data, L.Deconvolution(fc, convolution_param=dict(kernel_size=kernel, stride=stride))


def test_the_map_of_a_convolution() -> None:
    axis, scale, shift = coord_map(L.Convolution(L.Input(), kernel_size=5, stride=2, pad=1).fn)
    assert (axis, scale.tolist(), shift.tolist()) == (1, [0.5], [-0.5])


def test_dilation_widens_the_kernel() -> None:
    dilated = L.Convolution(L.Input(), kernel_size=3, dilation=2).fn
    assert coord_map(dilated)[2].tolist() == [-2.0]


def test_inverse_undoes() -> None:
    one = coord_map(L.Pooling(L.Input(), kernel_size=4, stride=3, pad=1).fn)
    axis, scale, shift = compose(one, inverse(one))
    assert (axis, scale.item(), shift.item()) == (1, pytest.approx(1), pytest.approx(0))


def test_crop_of_an_fcn() -> None:
    data, score = fcn()
    layer = crop(score, data).fn
    # 3.5 (deconvolution) - 4 * 3 (7x7) - 4 / 4 - 2 / 4 (poolings) + 99 (3x3, pad 100)
    assert layer.params["crop_param"] == {"axis": 2, "offset": [89]}
    assert coord_map_from_to(score, data)[1].tolist() == [1.0]
    assert layer.inputs == (score, data)


def test_a_crop_shifts_and_its_second_bottom_is_not_walked() -> None:
    data, score = fcn()
    cropped = L.Crop(score, data, offset=5)
    before, after = coord_map_from_to(score, data)[2], coord_map_from_to(cropped, data)[2]
    assert (after - before).tolist() == [5.0]


def test_refusals() -> None:
    data, score = fcn(stride=2)
    with pytest.raises(AssertionError, match="differ in scale"):
        crop(score, data)
    data, score = fcn(pad=0)
    with pytest.raises(AssertionError, match="would be negative"):
        crop(score, data)
    data, score = fcn(kernel=7)
    with pytest.raises(AssertionError, match="not a whole number"):
        crop(score, data)
    with pytest.raises(RuntimeError, match="no spatial layers connect"):
        coord_map_from_to(L.InnerProduct(data), data)
    with pytest.raises(AxisMismatchException, match="axes 1 and 2"):
        compose((1, 1, 0), (2, 1, 0))
    with pytest.raises(AssertionError, match="pad_h"):
        coord_map(L.Convolution(data, kernel_size=3, pad_h=1).fn)


def test_several_axes() -> None:
    conv = L.Convolution(L.Input(), kernel_size=[3, 5], stride=[1, 2], pad=[0, 2])
    _, scale, shift = coord_map(conv.fn)
    np.testing.assert_array_equal(scale, [1, 0.5])
    np.testing.assert_array_equal(shift, [-1, 0])
