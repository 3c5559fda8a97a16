"""Clipping and weight decay by hand."""

import pytest
import torch

from caffe_port.errors import UsageError
from caffe_port.solver.updates import clip, regularize


def test_clip_scales_all_diffs_by_their_common_norm() -> None:
    diffs = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert clip(diffs, 2.5) == (5.0, 0.5)
    assert [d.tolist() for d in diffs] == [[1.5], [[0.0, 2.0]]]


@pytest.mark.parametrize("limit", [5.0, 6.0, -1.0])
def test_clip_leaves_small_diffs_alone(limit: float) -> None:
    diffs = [torch.tensor([3.0, 4.0])]
    assert clip(diffs, limit) is None
    assert diffs[0].tolist() == [3.0, 4.0]


def test_clip_without_parameters_or_with_a_norm_that_is_nan_does_nothing() -> None:
    assert clip([], 1.0) is None
    diffs = [torch.tensor([3.0, float("nan")])]
    assert clip(diffs, 1.0) is None
    assert diffs[0][0] == 3


def test_decay() -> None:
    data = torch.tensor([2.0, -3.0, 0.0])
    for kind, wanted in (("L2", [2.0, -0.5, 1.0]), ("L1", [1.5, 0.5, 1.0])):
        diff = torch.ones(3)
        regularize(diff, data, 0.5, kind)
        assert diff.tolist() == wanted


def test_an_unknown_decay_is_refused() -> None:
    with pytest.raises(UsageError, match="regularization_type is 'L3'; expected L1 or L2"):
        regularize(torch.ones(1), torch.ones(1), 0.0, "L3")
