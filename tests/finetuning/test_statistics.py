"""Means, spreads, intervals: against the formula's tabled quantiles."""

import math

import pytest

from caffe_port.finetuning.tables import averaged, estimate, paired


def test_three_values_by_hand():
    found = estimate([1.0, 2.0, 6.0])
    assert found.mean == 3
    assert found.spread == pytest.approx(math.sqrt(7))
    # Student's t, 2 degrees of freedom, two-sided 5 %: 4.303
    assert found.half == pytest.approx(4.3027 * math.sqrt(7 / 3), rel=1e-4)
    assert found.seeds == 3


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([4.0], 4.0)])
def test_too_few_for_a_spread(values, mean):
    found = estimate(values)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.spread)
    assert math.isnan(found.half)


def test_pairs_are_of_the_seeds_that_both_have():
    found = paired({1: 5.0, 2: 7.0, 4: 100.0}, {2: 4.0, 1: 4.0, 3: -100.0})
    assert (found.mean, found.seeds) == (2.0, 2)
    assert paired({1: 5.0}, {2: 5.0}).seeds == 0


def test_pairing_removes_the_common_effect_of_a_seed():
    base = {seed: float(10 * seed) for seed in range(1, 6)}
    other = {seed: value + 1 for seed, value in base.items()}
    found = paired(other, base)
    assert (found.mean, found.half) == (1.0, 0.0)
    assert estimate(list(other.values())).half > 10


def test_averaged_over_variants():
    assert averaged([{1: 1.0, 2: 2.0}, {1: 3.0, 3: 9.0}]) == {1: 2.0}
    assert averaged([]) == {}
