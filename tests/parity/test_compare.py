"""The rule: form first (presence, shape, dtype, finiteness), values by distance to float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.parity import tolerance
from caffe_port.parity.compare import Exact, Verdict, compare, compare_equal

FLT_MAX = np.finfo(np.float32).max


def judge(port, exact, caffe, sigma=1e-6, port_exact=None, refine=None):
    """Compares with the same standard error everywhere."""
    found = np.asarray(exact, np.float64)
    other = found if port_exact is None else np.asarray(port_exact, np.float64)
    return compare(
        np.asarray(port, np.float32),
        Exact(other, np.full(other.shape, sigma), refine),
        np.asarray(caffe, np.float32),
        Exact(found, np.full(found.shape, sigma), refine),
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


@pytest.mark.parametrize("side", ["port", "caffe"])
def test_an_element_may_be_off_by_its_own_bound_and_no_more(side):
    sigma = np.array([1e-6, 1e-3])
    exact = Exact(np.array([1.0, 1.0]), sigma)
    for place in (0, 1):
        for factor, verdict in ((0.9, Verdict.PASS), (1.1, Verdict.FAIL)):
            off, right = np.ones(2, np.float32), np.ones(2, np.float32)
            off[place] += factor * tolerance.PER_ELEMENT * sigma[place]
            port, caffe = (off, right) if side == "port" else (right, off)
            result = compare(port, exact, caffe, exact)
            assert result.verdict is verdict
            share = result.port_share if side == "port" else result.caffe_share
            assert share == pytest.approx(factor, rel=0.1)
            if verdict is Verdict.FAIL:
                assert result.where == (place,)
                assert f"e_{side}" in result.reason


@pytest.mark.parametrize("side", ["port", "caffe"])
def test_a_small_error_everywhere_fails_by_the_mean_square(side):
    """No element alone would: a factor of 1 + 1e-5 on a whole layer is such an error."""
    exact = np.ones(10_000)
    limit = tolerance.mean_square_limit(exact.size)
    assert limit < tolerance.PER_ELEMENT / 4
    for factor, verdict in ((0.9, Verdict.PASS), (1.1, Verdict.FAIL)):
        off = np.float32(1 + factor * limit * 1e-3)
        port, caffe = (off, 1.0) if side == "port" else (1.0, off)
        result = judge(exact * port, exact, exact * caffe, sigma=1e-3)
        assert result.verdict is verdict
    assert "mean square" in result.reason


def test_each_side_is_compared_with_what_is_exact_for_its_own_numbers():
    result = judge([1.0], [2.0], [2.0], port_exact=[1.0])
    assert result.verdict is Verdict.PASS
    assert judge([1.0], [2.0], [2.0]).verdict is Verdict.FAIL
    assert judge([2.0], [2.0], [2.0], port_exact=[1.0]).verdict is Verdict.FAIL


def test_partial_sums_are_checked_before_a_blob_fails():
    asked = []

    def refine(indices):
        asked.append(list(indices))
        return np.full(len(indices), 1e-5)

    off = np.ones(100, np.float32)
    off[[3, 50]] += np.array([2e-5, 3e-5], np.float32)
    assert judge(off, np.ones(100), np.ones(100)).verdict is Verdict.FAIL
    assert judge(off, np.ones(100), np.ones(100), refine=refine).verdict is Verdict.PASS
    assert [index for indices in asked for index in indices][:2] == [50, 3]
    off[3] += 1e-3
    asked.clear()
    result = judge(off, np.ones(100), np.ones(100), refine=refine)
    assert result.verdict is Verdict.FAIL
    assert asked == [[3]] == [[result.where[0]]]  # it fails alone: no other is computed


def test_the_ratio_of_the_errors_is_information_only():
    result = judge([1 + 4e-6], [1.0], [1 + 1e-6])
    assert result.verdict is Verdict.PASS
    assert result.ratio == pytest.approx(4, rel=0.1)
    assert judge([1.0], [1.0], [1.0]).ratio is None


def test_a_wrong_port_fails_though_it_agrees_with_its_own_float64_run():
    assert judge([2.0, 1.0], [2.0, 1.0], [2.0, 1.5]).verdict is Verdict.FAIL


def test_zeros_need_zeros():
    assert judge([0.0], [0.0], [0.0], sigma=0).verdict is Verdict.PASS
    assert judge([0.0], [0.0], [1e-6], sigma=0).verdict is Verdict.FAIL
    assert judge([1e-6], [0.0], [0.0], sigma=0).verdict is Verdict.FAIL


def test_missing_blob():
    caffe = np.zeros(2, np.float32)
    exact = Exact(caffe.astype("f8"), caffe.astype("f8"))
    assert "no such blob" in compare(None, exact, caffe, exact).reason
    assert "float64 run" in compare(caffe, None, caffe, exact).reason
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
    single, double = Exact(one.astype("f4"), one), Exact(one, one)
    assert "float64" in compare(one, double, one.astype("f4"), double).reason
    assert (
        "float64 run has dtype"
        in compare(one.astype("f4"), single, one.astype("f4"), double).reason
    )
    assert "recording has dtype" in compare(one.astype("f4"), double, one, double).reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, FLT_MAX])
def test_port_must_be_finite_where_caffe_is(bad):
    result = judge([1.0, bad], [1.0, 2.0], [1.0, 2.0])
    assert result.verdict is Verdict.FAIL
    assert "[1]" in result.reason
    assert judge([1.0, 2.0], [1.0, bad], [1.0, 2.0]).verdict is Verdict.FAIL


def test_a_port_whose_own_exact_result_is_nan_fails():
    result = judge([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], port_exact=[1.0, np.nan])
    assert result.verdict is Verdict.FAIL


def test_nan_of_caffe_is_not_a_result():
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


def test_ties_are_accepted_and_counted_but_nothing_else():
    labels, port = np.array([1, 2, 3], np.float32), np.array([1, 0, 0], np.float32)
    tied = np.array([True, True, True])
    result = compare_equal(port, labels, tied=tied)
    assert (result.verdict, result.ties, result.differing) == (Verdict.PASS, 2, 2)
    result = compare_equal(port, labels, tied=np.array([True, True, False]))
    assert (result.verdict, result.ties, result.where) == (Verdict.FAIL, 1, (2,))


def test_nan_is_never_equal():
    values = np.array([np.nan], np.float32)
    assert compare_equal(values, values).verdict is Verdict.FAIL
