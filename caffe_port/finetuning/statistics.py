"""Means over seeds, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: NaN of none.
        spread: the standard deviation, NaN of fewer than two.
        half: half of the interval of CONFIDENCE around the mean, by Student's t; NaN likewise.
        seeds: how many.
    """

    mean: float
    spread: float
    half: float
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, spread and interval of values, one per seed."""
    count = len(values)
    if count < 2:
        return Estimate(values[0] if values else math.nan, math.nan, math.nan, count)
    from scipy.special import stdtrit  # quicker to import than scipy.stats

    spread = stdev(values)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return Estimate(fmean(values), spread, quantile * spread / math.sqrt(count), count)


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate:
    """Of the differences to the baseline, seed by seed, where both are known.

    Pairing takes out what a seed does to both: the same batches in the same order.
    """
    shared = sorted(values.keys() & baseline.keys())
    return estimate([values[seed] - baseline[seed] for seed in shared])


def averaged(many: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Seed by seed the mean over several variants, for the seeds that all have."""
    if not many:
        return {}
    shared = set(many[0]).intersection(*many[1:])
    return {seed: fmean(values[seed] for values in many) for seed in sorted(shared)}
