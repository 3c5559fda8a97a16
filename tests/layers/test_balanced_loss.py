"""SigmoidCrossEntropyLoss of HED and RCF, by loops after their sigmoid_cross_entropy_loss_layer."""

import numpy as np
import pytest
import torch

from tests.layers.helpers import layer

TEXT = 'type: "SigmoidCrossEntropyLoss" bottom: "b0" bottom: "b1" top: "l" loss_weight: 1'
SHAPE = (2, 1, 3, 4)


def loops(x, t, negative, scales_others):
    """Forward_cpu and Backward_cpu."""
    loss, diff = 0.0, 1 / (1 + np.exp(-x)) - t
    for i in range(len(x)):
        edges, others = (t[i] == 1).sum(), (t[i] == 0).sum()
        share = edges + others
        each = x[i] * (t[i] - (x[i] >= 0)) - np.log(1 + np.exp(x[i] - 2 * x[i] * (x[i] >= 0)))
        loss -= each[t[i] == 1].sum() * others / share
        loss -= negative * each[t[i] == 0].sum() * edges / share
        diff[i][t[i] == 1] *= others / share
        diff[i][t[i] == 0] *= negative * edges / share
        if scales_others:
            diff[i][(t[i] != 0) & (t[i] != 1)] = 0
    return loss / len(x), diff / len(x)


@pytest.mark.parametrize(("dialect", "negative"), [("hed", 1), ("rcf", 1.1)])
def test_classes_are_weighed_by_each_others_share(dialect, negative):
    rng = np.random.default_rng(4)
    x = rng.normal(size=SHAPE) * 3
    t = rng.choice([0, 0, 0, 1, 0.4], SHAPE)
    module = layer(TEXT, SHAPE, SHAPE, dialect=dialect, phase="TRAIN").double()
    scores = torch.from_numpy(x).requires_grad_()
    (loss,) = module(scores, torch.from_numpy(t))
    loss.backward()
    wanted, diff = loops(x, t, negative, dialect == "rcf")
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(scores.grad.numpy(), diff, rtol=1e-10, atol=1e-14)


def test_an_item_without_edges_and_others_gives_0():
    module = layer(TEXT, SHAPE, SHAPE, dialect="rcf", phase="TRAIN")
    assert module(torch.ones(SHAPE), torch.full(SHAPE, 0.25))[0].item() == 0


def test_elsewhere_it_is_bvlcs():
    scores, target = torch.ones(SHAPE), torch.zeros(SHAPE)
    plain = layer(TEXT, SHAPE, SHAPE, phase="TRAIN")(scores, target)[0]
    assert plain.item() == pytest.approx(12 * np.log(1 + np.e), rel=1e-6)
