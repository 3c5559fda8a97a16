"""DenseCRFLoss, SoftmaxWithLossOHEM and PRE_FIXED, after the sources of their forks."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.crf import reference
from tests.layers.helpers import layer

LABELS, HEIGHT, WIDTH = 3, 5, 7
IMAGE, SCORES = (2, 3, HEIGHT, WIDTH), (2, LABELS, HEIGHT, WIDTH)
TEXT = 'type: "DenseCRFLoss" bottom: "b0" bottom: "b1" top: "l" loss_weight: 1'
OPTIONS = "densecrf_loss_param { bi_xy_std: 9 bi_rgb_std: 6 }"


def blobs():
    rng = np.random.default_rng(3)
    image = rng.integers(-40, 40, IMAGE).astype(np.float32)
    image[0, :, 1:3, 2:5] = 0.5  # counts as 0: fractions are cut off
    image[1, :2, 0, 0] = 0
    probabilities = torch.from_numpy(rng.normal(size=SCORES).astype("f4")).softmax(1)
    return image, probabilities


def test_dense_crf_loss_and_its_diff():
    image, probabilities = blobs()
    made = layer(f"{TEXT} {OPTIONS}", IMAGE, SCORES, phase="TRAIN")
    given = probabilities.clone().requires_grad_()
    (loss,) = made(torch.from_numpy(image), given)
    (2 * loss).backward()
    wanted, diff = 0.0, np.zeros(SCORES)
    for n in range(2):
        kernel = reference.lattice_matrix(
            reference.bilateral(image[n].transpose(1, 2, 0).copy(), 9, 6)
        )
        counts = (image[n].astype(int) != 0).any(0).ravel()
        masked = probabilities[n].double().numpy().reshape(LABELS, -1) * counts
        filtered = masked @ kernel.T
        wanted -= (masked * filtered).sum() / 2
        diff[n] = (-2 * filtered * counts).reshape(LABELS, HEIGHT, WIDTH) / 2
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(given.grad.numpy(), 2 * diff, rtol=1e-4, atol=1e-5)
    assert not given.grad[0, :, 1:3, 2:5].any()


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("densecrf_loss_param { bi_xy_std: 0 }", IMAGE, "bi_xy_std is 0"),
        (OPTIONS, (2, 1, HEIGHT, WIDTH), "an image of shape"),
    ],
)
def test_dense_crf_losses_that_are_refused(options, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(f"{TEXT} {options}", shape, SCORES)


OHEM = (
    'type: "SoftmaxWithLossOHEM" bottom: "b0" bottom: "b1" top: "loss" top: "prob" top: "each" '
    "loss_weight: 1 loss_weight: 0 loss_weight: 0 "
    "loss_param {{ ignore_label: 255 normalization: {} }}"
)


@pytest.mark.parametrize(
    ("normalization", "divisor"), [("PRE_FIXED pre_fixed_normalizer: 7", 7), ("VALID", 68),
                                   ("NONE", 1), ("PRE_FIXED pre_fixed_normalizer: 0.5", 1)],
)  # fmt: skip
def test_the_loss_of_each_position(normalization, divisor):
    made = layer(OHEM.format(normalization), SCORES, (2, 1, HEIGHT, WIDTH), phase="TRAIN").double()
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(SCORES, generator=generator, dtype=torch.float64).requires_grad_()
    label = torch.randint(LABELS, (2, 1, HEIGHT, WIDTH), generator=generator).double()
    label[0, 0, 0, :2] = 255
    loss, prob, each = made(scores, label)
    counted = label[:, 0] != 255
    own = scores.log_softmax(1).gather(1, label.long().masked_fill(label == 255, 0))[:, 0]
    wanted = -own * counted
    torch.testing.assert_close(each[:, 0], wanted.detach())
    torch.testing.assert_close(loss, wanted.sum() / divisor)
    torch.testing.assert_close(prob, scores.detach().softmax(1))
    assert not each.requires_grad
    (grad,) = torch.autograd.grad(loss, scores, retain_graph=True)
    (reference_grad,) = torch.autograd.grad(wanted.sum() / divisor, scores)
    torch.testing.assert_close(grad, reference_grad)
