"""DenseCRFLoss, SoftmaxWithLossOHEM and PRE_FIXED, after the sources of their forks."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.crf import reference
from tests.layers.helpers import check_gradients, layer

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


def test_osvos_loss_is_heds():
    text = 'type: "%s" bottom: "b0" bottom: "b1" top: "l"'
    x = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    y = (x.detach() > 0.5).float()
    y[0, 0, 0, 0] = 2  # neither
    made = layer(text % "SigmoidCrossEntropyBalanceLoss", x.shape, y.shape)
    (loss,) = made(x, y)
    (diff,) = torch.autograd.grad(loss, x)
    heds = layer(text % "SigmoidCrossEntropyLoss", x.shape, y.shape, dialect="hed")
    assert torch.equal(loss, heds(x, y)[0])
    assert torch.equal(diff, torch.autograd.grad(heds(x, y)[0], x)[0])
    weight = torch.zeros_like(y)
    for n in range(2):  # the formula of the paper's equation 2
        edges, others = (y[n] == 1).sum(), (y[n] == 0).sum()
        weight[n] = torch.where(y[n] == 1, others, edges) / (edges + others) * (y[n] != 2)
    each = torch.nn.functional.binary_cross_entropy_with_logits(x, y.clamp(max=1), reduction="none")
    torch.testing.assert_close(loss, (each * weight).sum() / 2)


def sealed(classes, ignored):
    """SEAL's labels: yes or no (N, K, H, W) and pixels that do not count, as bits of floats."""
    channels = classes.shape[1] // 32 + 1
    words = np.zeros((classes.shape[0], channels, *classes.shape[2:]), np.uint32)
    for k in range(classes.shape[1]):
        words[:, k // 32] |= classes[:, k].numpy().astype(np.uint32) << np.uint32(k % 32)
    words[:, -1] |= ignored[:, 0].numpy().astype(np.uint32) << np.uint32(31)
    return torch.from_numpy(words.view(np.float32))


@pytest.mark.parametrize(("type", "count"), [("", 19), ("", 31), ("Reweighted", 19),
                                             ("Reweighted", 40)])  # fmt: skip
def test_seals_losses(type, count):
    draw = torch.Generator().manual_seed(2)
    shape = (2, count, 3, 4)
    scores = torch.randn(shape, generator=draw, requires_grad=True)
    classes = torch.rand(shape, generator=draw) < 0.03
    ignored = torch.rand(2, 1, 3, 4, generator=draw) < 0.3
    labels = sealed(classes, ignored)
    name = f"MultiChannel{type}SigmoidCrossEntropyLoss"
    made = layer(f'type: "{name}" bottom: "b0" bottom: "b1" top: "l"', shape, labels.shape)
    (loss,) = made(scores, labels)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        scores, classes.float(), reduction="none"
    )
    weight = (~ignored).float().expand(shape).clone()
    for n in range(2) if type else ():
        edges = (classes[n].any(0) & ~ignored[n, 0]).sum()
        others = (~classes[n].any(0) & ~ignored[n, 0]).sum()
        weight[n] *= torch.where(classes[n], others, edges) / (edges + others)
    wanted = (each * weight).sum() / 2
    torch.testing.assert_close(loss, wanted)
    (diff,) = torch.autograd.grad(loss, scores, retain_graph=True)
    torch.testing.assert_close(diff, torch.autograd.grad(wanted, scores)[0])
    check_gradients(made, scores.detach(), labels)


@pytest.mark.parametrize(("type", "classes", "words"), [("", 32, 1), ("", 3, 2),
                                                        ("Reweighted", 32, 1)])  # fmt: skip
def test_classes_without_a_bit_are_refused(type, classes, words):
    name = f"MultiChannel{type}SigmoidCrossEntropyLoss"
    with pytest.raises(LayerError, match=f"{classes} classes in {words} channels"):
        layer(f'type: "{name}" bottom: "b0" bottom: "b1" top: "l"', (1, classes, 2, 2),
              (1, words, 2, 2))  # fmt: skip


def test_the_scales_of_skeletons():
    x = torch.tensor([-3.0, 0, 0.5, 1, 11.5, 12, 35.9, 36, 79, 80, 199.5, 200, 900])
    (y,) = layer('type: "Quantize" bottom: "b0" top: "y"', x.shape)(x)
    assert y.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 0]
    text = 'type: "Rescale" bottom: "b0" top: "y" top: "w" rescale_param { rf: 40 }'
    y, w = layer(text, x.shape)(x)
    assert w.tolist() == [1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    torch.testing.assert_close(y, torch.where(w > 0, x / 20 - 1, 0.0))


def test_eltwise_accuracy():
    """Of equal scores the highest class is better; labels that are no class are wrong."""
    text = (
        'type: "EltwiseAccuracy" bottom: "b0" bottom: "b1" top: "a" eltwise_accuracy_param { %s }'
    )
    scores = torch.tensor([[[[3.0, 1, 2, 2]], [[3, 2, 1, 0]], [[0, 0, 0, 0]]]])
    labels = torch.tensor([[[[0.0, 1, 9, 255]]]])
    found = {}
    for options in ("", "ignore_label: 255", "ignore_label: 255 top_k: 2"):
        found[options] = layer(text % options, scores.shape, labels.shape)(scores, labels)[0].item()
    assert list(found.values()) == pytest.approx([1 / 4, 1 / 3, 2 / 3])
    only = layer(text % "ignore_label: 7", scores.shape, labels.shape)
    assert only(scores, torch.full_like(labels, 7))[0] == 0


def test_mask_pooling_is_a_product():
    text = 'type: "MaskPooling" bottom: "b0" bottom: "b1" top: "y"'
    x, mask = torch.randn(2, 3, 2, 2), torch.rand(2, 1, 2, 2)
    module = layer(text, x.shape, mask.shape)
    assert torch.equal(module(x, mask)[0], x * mask)
    check_gradients(module, x, mask, wrt=(0, 1))
