"""SoftmaxWithLoss: divisors, ignored labels, class weights, the floor, loss weights."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "SoftmaxWithLoss" bottom: "b0" bottom: "b1" top: "loss"'
X = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([[[[0.0, 2], [255, 1]]], [[[255, 255], [2, 2]]]])
COUNTED = LABELS[:, 0] != 255


def each(x=X, labels=LABELS):
    picked = labels[:, 0].long().masked_fill(labels[:, 0] == 255, 0)[:, None]
    return -x.double().log_softmax(1).gather(1, picked)[:, 0]


def made(options, x=X, labels=LABELS, **settings):
    return layer(f"{TEXT} {options}", x.shape, labels.shape, **settings)


@pytest.mark.parametrize(
    ("options", "divisor"),
    [
        ("", 5),
        ("normalization: VALID", 5),
        ("normalization: FULL", 8),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalize: true", 5),
        ("normalize: false", 2),
        ("normalize: false normalization: FULL", 8),
    ],
)
def test_divisors(options, divisor):
    module = made(f"loss_param {{ ignore_label: 255 {options} }}")
    (loss,) = module(X, LABELS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(each()[COUNTED].sum().item() / divisor, rel=1e-6)
    check_gradients(module, X, LABELS)


@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_nothing_counted_gives_0_and_zero_diffs(mode):
    x = X.clone().requires_grad_()
    options = f"loss_param {{ ignore_label: 255 normalization: {mode} }}"
    (loss,) = made(options)(x, torch.full_like(LABELS, 255))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


def test_ignored_positions_get_no_diff():
    x = X.clone().requires_grad_()
    made("loss_param { ignore_label: 255 }")(x, LABELS)[0].backward()
    assert not x.grad.movedim(1, -1)[~COUNTED].any()
    assert x.grad.movedim(1, -1)[COUNTED].all()


def test_without_ignored_labels_every_position_counts():
    labels = LABELS.clamp(max=2)
    assert made("")(X, labels)[0].item() == pytest.approx(each(X, labels).mean().item(), rel=1e-6)


def test_the_batch_is_all_before_the_class_axis():
    x, labels = torch.randn(2, 5, 3, 4), torch.randint(0, 3, (2, 5, 4)).float()
    options = "softmax_param { axis: -2 } loss_param { normalization: BATCH_SIZE }"
    module = layer(f"{TEXT} {options}", x.shape, labels.shape)
    rows = x.movedim(2, -1).reshape(-1, 3)
    total = torch.nn.functional.cross_entropy(rows, labels.flatten().long(), reduction="sum")
    assert torch.allclose(module(x, labels)[0], total / 10)


def test_the_probability_is_floored_but_its_diff_is_not():
    x = torch.tensor([[0.0, 200]], requires_grad=True)
    (loss,) = layer(TEXT, (1, 2), (1,))(x, torch.zeros(1))
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny), rel=1e-6)
    loss.backward()
    assert x.grad.tolist() == [[-1, 1]]


def test_the_second_top_is_the_probability():
    text = f'{TEXT} top: "p" loss_weight: 2 loss_weight: 0 loss_param {{ ignore_label: 255 }}'
    module = layer(text, X.shape, LABELS.shape)
    _, p = module(X, LABELS)
    assert torch.allclose(p, X.softmax(1))
    assert module.spec.loss_weights == (2, 0)


def test_loss_weight_defaults_to_1():
    assert made("").spec.loss_weights == (1,)
    assert made("loss_weight: 0.25").spec.loss_weights == (0.25,)
    with pytest.raises(LayerError, match="2 tops and no loss_weight"):
        layer(TEXT + ' top: "p"', X.shape, LABELS.shape)


def test_a_top_is_added_where_none_is_given():
    text = 'layer { name: "op" type: "SoftmaxWithLoss" bottom: "b0" bottom: "b1" }'
    net = net_of(text, (2, 3), (2,))
    (loss,) = net({"b0": torch.rand(2, 3), "b1": torch.zeros(2)}).values()
    assert loss.shape == ()


@pytest.mark.parametrize("options", ["", "softmax_param { axis: -2 }"])
def test_the_kernel_by_name(options):
    pytest.importorskip("triton", minversion="3.7", reason="runs in its interpreter")
    x, labels = torch.randn(2, 3, 3, 4), torch.randint(0, 3, (2, 3, 4)).float()
    module = layer(f"{TEXT} {options}", x.shape, labels.shape)
    found = []
    for module.path in ("auto", "torch", "triton"):
        leaf = x.clone().requires_grad_()
        (loss,) = module(leaf, labels)
        (loss * 0.5).backward()
        found.append((loss, leaf.grad))
    (auto, auto_grad), (loss, grad), (kernel, kernel_grad) = found
    assert auto.item() == loss.item()
    assert torch.equal(auto_grad, grad)
    assert "CrossEntropy" not in type(kernel.grad_fn).__name__
    assert kernel.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(kernel_grad, grad, atol=1e-7)


def weighted(tmp_path, weights="1 0.5\n4", ignored="255"):
    (tmp_path / "w.txt").write_text(weights)
    labels = " ".join(f"ignore_label: {v}" for v in ignored.split())
    return f'softmaxloss_param {{ {labels} weight_source: "{tmp_path}/w.txt" }}'


def test_class_weights_of_deeplab1(tmp_path):
    module = made(weighted(tmp_path), dialect="deeplab1")
    weights = torch.tensor([1.0, 0.5, 4]).double()[LABELS[:, 0].long().clamp(max=2)][COUNTED]
    wanted = (each()[COUNTED] * weights).sum() / weights.sum()
    assert module(X, LABELS)[0].item() == pytest.approx(wanted.item(), rel=1e-6)
    check_gradients(module, X, LABELS)


def test_several_ignored_labels_of_deeplab1(tmp_path):
    module = made(weighted(tmp_path, "1 1 1", "255 2"), dialect="deeplab1")
    kept = COUNTED & (LABELS[:, 0] != 2)
    assert module(X, LABELS)[0].item() == pytest.approx(each()[kept].mean().item(), rel=1e-6)


def test_deeplab1_without_a_counted_pixel_gives_0(tmp_path):
    x = X.clone().requires_grad_()
    for weights, labels in (("1 1 1", torch.full_like(LABELS, 255)), ("0 0 0", LABELS)):
        (loss,) = made(weighted(tmp_path, weights), dialect="deeplab1")(x, labels)
        loss.backward()
        assert loss.item() == 0
        assert not x.grad.any()


@pytest.mark.parametrize("weights", ["1 2", "1 2 -3", "1 2 x", ""])
def test_weights_it_refuses(tmp_path, weights):
    with pytest.raises(LayerError, match="weight_source"):
        made(weighted(tmp_path, weights), dialect="deeplab1")


def test_a_missing_weight_file(tmp_path):
    options = weighted(tmp_path)
    (tmp_path / "w.txt").unlink()
    with pytest.raises(LayerError, match="No such file"):
        made(options, dialect="deeplab1")


@pytest.mark.parametrize("label", [3, -1, 255])
def test_a_label_outside_is_refused(label):
    with pytest.raises(LayerError, match=f"label {label}; expected 0 to 2"):
        made("")(X, torch.full_like(LABELS, label))


def test_shapes_it_refuses():
    with pytest.raises(LayerError, match="one per position"):
        layer(TEXT, (2, 3, 2, 2), (2, 3, 2, 2))


SEGNET = "loss_param { weight_by_label_freqs: true ignore_label: 255 "
WEIGHTS = torch.tensor([0.5, 10.0, 2.25])


def segnet(options="", weights=WEIGHTS):
    given = " ".join(f"class_weighting: {weight}" for weight in weights.tolist())
    return made(f"{SEGNET} {given} {options} }}")


@pytest.mark.parametrize(("options", "divisor"), [("", 5), ("normalize: false", 2)])
def test_segnets_class_weights(options, divisor):
    """caffe-segnet softmax_loss_layer.cpp: weights on each pixel's loss, the count as divisor."""
    weight = WEIGHTS.double()[LABELS[:, 0].long().masked_fill(~COUNTED, 0)]
    expected = (each() * weight)[COUNTED].sum().item() / divisor
    module = segnet(options)
    assert module(X, LABELS)[0].item() == pytest.approx(expected, rel=1e-6)
    check_gradients(module, X, LABELS)
    x = X.clone().requires_grad_()
    segnet(options)(x, LABELS)[0].backward()
    one = torch.nn.functional.one_hot(LABELS[:, 0].long() % 255, 3).movedim(-1, 1)
    wanted = (X.softmax(1) - one) * (weight * COUNTED / divisor)[:, None]
    assert torch.allclose(x.grad, wanted.float(), atol=1e-6)


def test_segnets_own_example():
    """Two pixels, weights 10 and 1: (10 * log(1 + e) + log(1 + e^2)) / 2."""
    scores = torch.tensor([[[[0.0, 2.0]], [[1.0, 0.0]]]])
    labels = torch.tensor([[[[0.0, 1.0]]]])
    options = "loss_param { weight_by_label_freqs: true class_weighting: 10 class_weighting: 1 }"
    (loss,) = made(options, scores, labels)(scores, labels)
    expected = (10 * math.log(1 + math.e) + math.log(1 + math.e**2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_segnets_weights_count_only_on_request():
    (loss,) = made("loss_param { ignore_label: 255 class_weighting: 9 }")(X, LABELS)
    assert loss.item() == made("loss_param { ignore_label: 255 }")(X, LABELS)[0].item()


@pytest.mark.parametrize(
    ("weights", "match"),
    [("", "without class_weighting"), ("class_weighting: 1", "1 class_weighting for 3 classes")],
)
def test_segnets_weights_that_do_not_fit(weights, match):
    with pytest.raises(LayerError, match=match):
        made(f"{SEGNET} {weights} }}")
