"""Layers whose diff is Caffe's own: differentiated again they refuse, or give the right thing."""

import pytest
import torch

from tests.layers.helpers import layer

LABELS = torch.tensor([0.0, 2])


def diff_of(text, *bottoms):
    module = layer(text, *(b.shape for b in bottoms))
    x = bottoms[0].clone().requires_grad_()
    (top,) = module(x, *bottoms[1:])
    (diff,) = torch.autograd.grad(top.square().sum(), x, create_graph=True)
    return x, diff


@pytest.mark.parametrize(
    ("text", "bottoms"),
    [
        ('type: "MVN" bottom: "b0" top: "y"', (torch.rand(1, 2, 3, 3),)),
        ('type: "MultinomialLogisticLoss" bottom: "b0" bottom: "b1" top: "y"',
         (torch.rand(2, 3), LABELS)),
        ('type: "InfogainLoss" bottom: "b0" bottom: "b1" bottom: "b2" top: "y"',
         (torch.rand(2, 3), LABELS, torch.rand(1, 1, 3, 3))),
        ('type: "ContrastiveLoss" bottom: "b0" bottom: "b1" bottom: "b2" top: "y"',
         (torch.rand(2, 3), torch.rand(2, 3), torch.tensor([0.0, 1]))),
    ],
)  # fmt: skip
def test_it_is_refused(text, bottoms):
    _, diff = diff_of(text, *bottoms)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        diff.sum().backward()


def test_of_the_softmax_loss_it_is_right():
    scores = torch.rand(2, 3)
    x, diff = diff_of('type: "SoftmaxWithLoss" bottom: "b0" bottom: "b1" top: "y"', scores, LABELS)
    (found,) = torch.autograd.grad(diff.square().sum(), x)
    plain = torch.nn.functional.cross_entropy(x, LABELS.long()).square()
    (wanted,) = torch.autograd.grad(plain, x, create_graph=True)
    (wanted,) = torch.autograd.grad(wanted.square().sum(), x)
    assert torch.allclose(found, wanted, atol=1e-6)


def elu(x):
    return torch.nn.functional.elu(x, 0.5)


def questions(x):
    target = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    return torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="sum") / 2


@pytest.mark.parametrize(
    ("text", "more", "plain"),
    [
        ('type: "ELU" bottom: "b0" top: "y" elu_param { alpha: 0.5 }', (), elu),
        ('type: "SigmoidCrossEntropyLoss" bottom: "b0" bottom: "b1" top: "y"',
         (torch.tensor([[1.0, 0, 1], [0, 1, 0]]),), questions),
    ],
)  # fmt: skip
def test_it_is_right(text, more, plain):
    x, diff = diff_of(text, torch.tensor([[-1.0, 0.5, -0.2], [2, -3, 0.1]]), *more)
    (found,) = torch.autograd.grad(diff.square().sum(), x)
    (first,) = torch.autograd.grad(plain(x).square().sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
