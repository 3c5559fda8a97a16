"""The torch path of the softmax loss: against slow loops, its gradients, at its edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_port.losses import softmax_loss
from tests.losses.reference import slow_softmax_loss

NORMALIZATIONS = ("VALID", "FULL", "BATCH_SIZE", "NONE", "WEIGHTS")


def case(items, classes, *grid, seed=1):
    """Scores, and labels of which a fifth is 255."""
    make = torch.Generator().manual_seed(seed)
    scores = torch.randn(items, classes, *grid, generator=make).double() * 3
    labels = torch.randint(0, classes, (items, *grid), generator=make)
    labels[torch.rand(labels.shape, generator=make) < 0.2] = 255
    return scores, labels


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(NORMALIZATIONS), st.sampled_from([(255,), (255, 0), (255, 1, -1)]),
    st.booleans(), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4),
    st.integers(0, 1000),
)  # fmt: skip
def test_against_loops(normalization, ignored, weighted, items, classes, height, width, seed):
    scores, labels = case(items, classes, height, width, seed=seed)
    weights = [0.5, 0.0, 2.0, 1.0, 0.25][:classes] if weighted else None
    found = softmax_loss(
        scores, labels, ignore_labels=ignored, normalization=normalization,
        class_weights=torch.tensor(weights) if weighted else None,
    )  # fmt: skip
    wanted = slow_softmax_loss(scores, labels, ignored, normalization, weights)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("weights", [None, (1.0, 0, 2.5)])
def test_gradients(normalization, weights):
    """Of the first and of the second order."""
    scores, labels = case(2, 3, 2)
    labels[0, 0] = 255
    scores.requires_grad_()

    def run(x):
        return softmax_loss(
            x, labels, ignore_labels=(255,), normalization=normalization,
            class_weights=None if weights is None else torch.tensor(weights),
        )  # fmt: skip

    assert torch.autograd.gradcheck(run, (scores,), eps=1e-6, atol=1e-7, rtol=1e-5)
    assert torch.autograd.gradgradcheck(run, (scores,), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_the_second_order_is_that_of_torch():
    """A gradient penalty gives what it gives through torch's own loss."""
    scores, labels = case(2, 4, 3, 3)
    labels = labels.clamp(max=3)
    found = []
    for loss in (softmax_loss, torch.nn.functional.cross_entropy):
        leaf = scores.clone().requires_grad_()
        (diff,) = torch.autograd.grad(loss(leaf, labels), leaf, create_graph=True)
        found += torch.autograd.grad(diff.square().sum(), leaf)
    assert found[0].abs().max() > 1e-3
    assert torch.allclose(*found, atol=1e-14)


def test_positions_that_do_not_count_may_be_nan():
    scores, labels = case(2, 3, 4)
    wanted = softmax_loss(scores, labels, ignore_labels=(255,))
    scores[(labels == 255)[:, None].expand_as(scores)] = math.nan
    scores.requires_grad_()
    loss = softmax_loss(scores, labels, ignore_labels=(255,))
    loss.backward()
    assert loss.item() == wanted.item()
    assert scores.grad.isfinite().all()
    assert not scores.grad.movedim(1, -1)[labels == 255].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    """A sum beyond float16's 65504, and a probability below its smallest number."""
    scores = torch.zeros(1, 2, 9000, dtype=dtype)
    scores[:, 0] = 40
    scores.requires_grad_()
    loss = softmax_loss(scores, torch.ones(1, 9000), normalization="NONE")
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(9000 * 40, rel=1e-6)
    assert scores.grad.dtype == dtype
    assert (scores.grad[0, 0] == 1).all()


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_an_empty_batch(shape, normalization):
    scores = torch.zeros(shape, requires_grad=True)
    labels = torch.zeros(shape[0], *shape[2:])
    loss = softmax_loss(scores, labels, normalization=normalization)
    loss.backward()
    assert loss.item() == 0
