"""Boost's distributions; whole streams are compared with Caffe's in test_recorded."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffe_port.data import rng
from caffe_port.data.rng import CaffeRandom, bernoulli, normal, uniform


class Scripted(CaffeRandom):
    """A generator whose draws are given."""

    def __init__(self, draws):
        super().__init__(0)
        self.script = list(draws)

    def draw(self):
        return self.script.pop(0)

    def draws(self, count):
        return np.array([self.draw() for _ in range(count)], np.uint32)


def test_uniform_is_linear_in_the_draw():
    values = uniform(Scripted([0, 2**30, 2**31]), 3, -2, 2)
    assert values.dtype == np.float32
    assert values[0] == -2
    np.testing.assert_allclose(values, [-2, -1, 0], atol=1e-6)


def test_a_uniform_draw_that_rounds_to_the_end_is_repeated():
    random = Scripted([2**31, 2**32 - 1, 2**30])
    np.testing.assert_allclose(uniform(random, 2, 0, 1), [0.5, 0.25], atol=1e-6)
    assert random.script == []


def test_bernoulli_compares_the_raw_draw():
    kept = bernoulli(Scripted([0, 2**31 - 1, 2**31, 2**32 - 1]), 4, 0.5)
    assert kept.tolist() == [True, True, False, False]
    in_float32 = bernoulli(Scripted([2**31, 2**31 + 1000]), 2, np.float32(0.5))
    assert in_float32.tolist() == [True, False]  # 2^32 - 1 rounds up there


def test_probability_0_draws_nothing():
    assert not bernoulli(Scripted([]), 3, 0.0).any()


def test_a_block_is_the_same_as_number_by_number():
    whole, single = CaffeRandom(3), CaffeRandom(3)
    values = normal(whole, 20_000, 1.0, 2.0)
    one_by_one = np.concatenate([normal(single, 1, 1.0, 2.0) for _ in range(20_000)])
    np.testing.assert_array_equal(values, one_by_one)
    assert whole.draw() == single.draw()


def test_normal_numbers_are_normal():
    values = normal(CaffeRandom(5), 200_000, 0.0, 1.0).astype(np.float64)
    assert values.dtype == np.float64
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    for bound in (0.5, 1.0, 2.0, 3.0):
        share = math.erfc(bound / math.sqrt(2))
        assert abs((np.abs(values) > bound).mean() - share) < 5 * math.sqrt(share / 200_000)
    assert np.abs(values).max() > 3.6  # the tail beyond the lowest strip


@pytest.mark.parametrize(
    ("table", "strips", "inverse"),
    [
        (rng._normal_table, 128, lambda x: math.exp(-x * x / 2)),
        (rng._exponential_table, 256, lambda x: math.exp(-x)),
    ],
)
def test_strips_end_where_the_density_does(table, strips, inverse):
    widths, heights = table()
    assert len(widths) == len(heights) == strips + 1
    assert (widths[-1], heights[0], heights[-1]) == (0, 0, 1)
    areas = widths[1:-1].astype(float) * np.diff(heights)[1:]
    np.testing.assert_allclose(areas, areas[0], rtol=1e-5)
    np.testing.assert_allclose(heights[1:], [inverse(float(x)) for x in widths[1:]], rtol=1e-5)
