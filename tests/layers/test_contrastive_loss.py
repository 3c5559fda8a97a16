"""ContrastiveLoss: both versions, their diffs, the margin."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "ContrastiveLoss" bottom: "b0" bottom: "b1" bottom: "b2" top: "loss"'
SHAPES = (3, 2), (3, 2), (3,)


def made(options=""):
    return layer(f"{TEXT} contrastive_loss_param {{ {options} }}", *SHAPES)


# distances 5, 0.5 and 5
A = torch.tensor([[3.0, 4], [0.3, 0.4], [0, 0]])
B = torch.tensor([[0.0, 0], [0, 0], [3, 4]])
SIMILAR = torch.tensor([1.0, 0, 0])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [("", 25 + 0.5**2), ("legacy_version: true", 25 + 0.75), ("margin: 6", 25 + 5.5**2 + 1)],
)
def test_by_hand(options, wanted):
    (loss,) = made(options)(A, B, SIMILAR)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(wanted / 3 / 2, rel=1e-6)


def test_the_diff_divides_by_the_distance_and_1e4th():
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    made()(a, b, SIMILAR)[0].backward(torch.tensor(3.0))
    pulled = -0.5 / (0.5 + 1e-4) * A[1]
    assert torch.allclose(a.grad, torch.stack([A[0], pulled, torch.zeros(2)]))
    assert torch.equal(a.grad, -b.grad)


def test_equal_but_dissimilar_vectors_get_a_finite_diff():
    a = torch.ones(3, 2, requires_grad=True)
    made()(a, torch.ones(3, 2), torch.zeros(3))[0].backward()
    assert not a.grad.any()


@pytest.mark.parametrize("options", ["legacy_version: true", "legacy_version: true margin: 40"])
def test_gradients_of_the_legacy_version(options):
    check_gradients(made(options), A, B, SIMILAR, wrt=(0, 1))


def test_gradients_of_far_pairs_agree_but_for_the_1e4th():
    a, b = (1e5 * torch.rand(3, 2).double() for _ in range(2))
    module = made("margin: 1000000")
    points = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(lambda *p: module(*p, SIMILAR)[0], points, eps=1e-2, rtol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 2, 2, 1), (3, 2), (3,)), "bottom 0 has shape"),
        (((3, 2), (3, 4), (3,)), "expected vectors of equal length"),
        (((3, 2), (3, 2), (3, 2)), "one label per pair"),
    ],
)
def test_what_it_refuses(shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT, *shapes)
