"""SigmoidCrossEntropyLoss: the divisors, ignored targets, large scores."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "SigmoidCrossEntropyLoss" bottom: "b0" bottom: "b1" top: "loss"'
X = torch.tensor([[0.5, -1, 2], [0, 3, -0.25]])
T = torch.tensor([[1.0, 0, 0.25], [1, 1, 0]])


def each(x, t):
    p = torch.sigmoid(x.double())
    return -(t * p.log() + (1 - t) * (1 - p).log())


def run(x=X, t=T, options="", dialect="bvlc"):
    module = layer(f"{TEXT} loss_param {{ {options} }}", x.shape, t.shape, dialect=dialect)
    return module(x, t)[0]


@pytest.mark.parametrize(
    ("options", "divisor"),
    [
        ("", 2),
        ("normalization: FULL", 6),
        ("normalization: VALID", 6),
        ("normalization: NONE", 1),
        ("normalize: true", 6),
        ("normalize: true normalization: NONE", 1),
    ],
)
def test_divisors(options, divisor):
    loss = run(options=options)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(each(X, T).sum().item() / divisor, rel=1e-6)


def test_ignored_targets_count_for_nothing():
    t = T.clone()
    t[0, 1] = t[1, 0] = -7
    x = X.clone()
    x[0, 1] = float("inf")
    x.requires_grad_()
    loss = run(x, t, "ignore_label: -7 normalization: VALID")
    kept = t != -7
    assert loss.item() == pytest.approx(each(X, T)[kept].mean().item(), rel=1e-6)
    loss.backward()
    assert torch.allclose(x.grad[kept], ((torch.sigmoid(X) - T) / 4)[kept])
    assert not x.grad[~kept].any()


def test_all_ignored_gives_0():
    options = "ignore_label: 1 normalization: VALID"
    assert run(X, torch.ones(2, 3), options).item() == 0


def test_the_forks_have_no_options():
    loss = run(options="ignore_label: 0 normalization: NONE", dialect="deeplab2")
    assert loss.item() == pytest.approx(each(X, T).sum().item() / 2, rel=1e-6)


def test_large_scores_stay_finite():
    x = torch.tensor([[1e4, -1e4]])
    assert run(x, torch.tensor([[0.0, 1]])).item() == 2e4


def test_gradients():
    check_gradients(layer(TEXT, (2, 3), (2, 3)), X + 0.01, T)


def test_what_it_refuses():
    with pytest.raises(LayerError, match="expected as many"):
        layer(TEXT, (2, 3), (2, 4))
    with pytest.raises(LayerError, match="bottom 1 has 3 items"):
        layer(TEXT, (2, 3), (3, 2))
