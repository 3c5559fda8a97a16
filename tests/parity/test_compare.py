"""The rule: form first (presence, shape, dtype, finiteness), values by distance to float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.parity import tolerance
from caffe_port.parity.compare import Verdict, compare, compare_equal

FLT_MAX = np.finfo(np.float32).max


def judge(port, exact, caffe, rule=tolerance.NET):
    return compare(
        np.asarray(port, np.float32),
        np.asarray(exact, np.float64),
        np.asarray(caffe, np.float32),
        rule,
    )


def test_equal_blobs_pass_with_no_error():
    result = judge([1, 2], [1, 2], [1, 2])
    assert result.verdict is Verdict.PASS
    assert (result.e_port, result.e_caffe, result.peak) == (0, 0, 2)


def test_one_ulp_passes_where_caffe_is_exact():
    result = judge([np.nextafter(np.float32(2), np.float32(3))], [2.0], [2.0])
    assert result.verdict is Verdict.PASS
    assert result.ulps == 1
    assert result.e_caffe == 0


def test_eight_ulps_of_the_peak_pass_and_nine_fail():
    ulp = float(np.spacing(np.float32(1)))
    assert judge([1, 8 * ulp], [1, 0], [1, 0]).verdict is Verdict.PASS
    result = judge([1, 9 * ulp], [1, 0], [1, 0])
    assert result.verdict is Verdict.FAIL
    assert result.where == (1,)
    assert "e_port" in result.reason


def test_three_times_caffes_error_passes_and_more_fails():
    assert judge([1 + 3e-5], [1.0], [1 - 1.1e-5]).verdict is Verdict.PASS
    assert judge([1 + 4e-5], [1.0], [1 - 1.1e-5]).verdict is Verdict.FAIL


def test_parameter_gradient_may_be_off_by_its_own_part_of_the_peak():
    assert judge([1 + 3e-6], [1.0], [1.0]).verdict is Verdict.FAIL
    rule = tolerance.NET_PARAMETER_GRADIENT
    assert judge([1 + 3e-6], [1.0], [1.0], rule).verdict is Verdict.PASS
    assert judge([1 + 5e-6], [1.0], [1.0], rule).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("rule", "limit"), [(tolerance.LAYER, 1e-5), (tolerance.NET, 1e-4)], ids=["layer", "net"]
)
def test_caffes_own_error_must_be_of_float32_size(rule, limit):
    assert judge([1.0], [1.0], [1 + 0.9 * limit], rule).verdict is Verdict.PASS
    result = judge([1.0], [1.0], [1 + 1.1 * limit], rule)
    assert result.verdict is Verdict.FAIL
    assert "e_caffe" in result.reason


def test_a_wrong_port_fails_though_it_agrees_with_its_own_float64_run():
    assert judge([2.0, 1.0], [2.0, 1.0], [2.0, 1.5]).verdict is Verdict.FAIL


def test_zeros_need_zeros():
    assert judge([0.0], [0.0], [0.0]).verdict is Verdict.PASS
    assert judge([0.0], [0.0], [1e-6]).verdict is Verdict.FAIL
    assert judge([1e-6], [0.0], [0.0]).verdict is Verdict.FAIL


def test_missing_blob():
    caffe = np.zeros(2, np.float32)
    assert "no such blob" in compare(None, caffe.astype("f8"), caffe).reason
    assert "float64 run" in compare(caffe, None, caffe).reason
    assert compare_equal(None, caffe).verdict is Verdict.FAIL


def test_shapes_do_not_broadcast():
    result = judge(np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 3)))
    assert result.verdict is Verdict.FAIL
    assert "[2, 1]" in result.reason
    assert "[2, 3]" in result.reason


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_old_caffe_shows_every_blob_with_four_axes(shape):
    assert judge(np.ones(shape), np.ones(shape), np.ones((1, 1, 1, 1))).verdict is Verdict.PASS


def test_four_axes_excuse_only_axes_of_length_one():
    values = np.ones((3, 4))
    assert judge(values, values, np.ones((3, 4, 1, 1))).verdict is Verdict.PASS
    assert judge(values, values, np.ones((4, 3, 1, 1))).verdict is Verdict.FAIL
    assert judge(values, values, np.ones((3, 4, 1))).verdict is Verdict.FAIL


def test_scalar_and_empty_blobs():
    assert judge(2.0, 2.0, 2.0).verdict is Verdict.PASS
    empty = np.zeros((0, 3))
    assert judge(empty, empty, empty).verdict is Verdict.PASS
    assert judge(empty, empty, np.zeros((0, 4))).verdict is Verdict.FAIL


def test_dtypes_are_checked():
    one = np.ones(1)
    assert "float64" in compare(one, one, one.astype("f4")).reason
    assert (
        "float64 run has dtype"
        in compare(one.astype("f4"), one.astype("f4"), one.astype("f4")).reason
    )
    assert "recording has dtype" in compare(one.astype("f4"), one, one).reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, FLT_MAX])
def test_port_must_be_finite_where_caffe_is(bad):
    result = judge([1.0, bad], [1.0, 2.0], [1.0, 2.0])
    assert result.verdict is Verdict.FAIL
    assert "[1]" in result.reason
    assert judge([1.0, 2.0], [1.0, bad], [1.0, 2.0]).verdict is Verdict.FAIL


def test_nan_of_caffe_is_no_answer():
    assert "NaN" in judge([np.nan], [np.nan], [np.nan]).reason


def test_extreme_values_are_compared_exactly_and_kept_out_of_the_peak():
    result = judge([-FLT_MAX, 1], [-FLT_MAX, 1], [-FLT_MAX, 1])
    assert result.verdict is Verdict.PASS
    assert result.peak == 1
    off = np.nextafter(-FLT_MAX, np.float32(0))
    assert judge([off, 1], [-FLT_MAX, 1], [-FLT_MAX, 1]).verdict is Verdict.FAIL
    assert judge([0, 1], [-FLT_MAX, 1], [-FLT_MAX, 1]).verdict is Verdict.FAIL
    assert judge([-FLT_MAX, 1], [0, 1], [-FLT_MAX, 1]).verdict is Verdict.FAIL
    assert judge([-np.inf, 1], [-np.inf, 1], [-np.inf, 1]).verdict is Verdict.PASS


def test_equal_results_differ_nowhere():
    labels = np.array([[1, 2], [3, 0]], np.float32)
    assert compare_equal(labels, labels).differing == 0
    other = labels.copy()
    other[1, 0] = 2
    result = compare_equal(other, labels)
    assert result.verdict is Verdict.FAIL
    assert (result.differing, result.where) == (1, (1, 0))
    assert "2, Caffe 3" in result.reason


def test_ties_are_forgiven_and_counted_but_only_where_they_are():
    labels, port = np.array([1, 2, 3], np.float32), np.array([1, 0, 0], np.float32)
    tied = np.array([True, True, True])
    result = compare_equal(port, labels, tied=tied)
    assert (result.verdict, result.ties, result.differing) == (Verdict.PASS, 2, 2)
    result = compare_equal(port, labels, tied=np.array([True, True, False]))
    assert (result.verdict, result.ties, result.where) == (Verdict.FAIL, 1, (2,))


def test_nan_is_never_equal():
    values = np.array([np.nan], np.float32)
    assert compare_equal(values, values).verdict is Verdict.FAIL
