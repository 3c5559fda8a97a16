"""The torch path against slow loops, by hand, at its edges, and its gradients."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_port.errors import UsageError
from caffe_port.losses import FeedbackLoss, FeedbackOptions, feedback_loss
from tests.losses.reference import slow_loss

SIMILARITIES = ("cosine", "correlation")
TEMPLATES = ("best", "mean", "top-k")
OPTIONS = st.builds(
    FeedbackOptions,
    similarity=st.sampled_from(SIMILARITIES),
    template=st.sampled_from(TEMPLATES),
    k=st.integers(1, 4),
    detach=st.booleans(),
    include_background=st.booleans(),
    correct_only=st.booleans(),
    pull_weight=st.floats(-2, 2),
    push_weight=st.floats(-2, 2),
    margin=st.floats(-1, 1),
    ignore_labels=st.sampled_from([(255,), (255, 1), (255, 0, 2)]),
    eps=st.sampled_from([1e-6, 0.1]),
)


def case(items, channels, classes, height, width, seed, rounded=False):
    """Features, labels of few classes and 255, and scores; rounded ones tie."""
    make = torch.Generator().manual_seed(seed)
    features = torch.randn(items, channels, height, width, generator=make).double()
    scores = torch.randn(items, classes, height, width, generator=make).double()
    labels = torch.randint(0, classes + 1, (items, height, width), generator=make)
    labels[labels == classes] = 255
    return features.round() if rounded else features, labels, scores.round() if rounded else scores


@settings(max_examples=150, deadline=None)
@given(
    OPTIONS, st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4),
    st.integers(1, 4), st.integers(0, 1000), st.booleans(),
)  # fmt: skip
def test_against_loops(options, items, channels, classes, height, width, seed, rounded):
    features, labels, scores = case(items, channels, classes, height, width, seed, rounded)
    found = feedback_loss(features, labels, scores, options)
    assert found.item() == pytest.approx(slow_loss(features, labels, scores, options), abs=1e-9)


@pytest.mark.parametrize("template", TEMPLATES)
def test_without_scores_the_features_are_scored(template):
    features, labels, _ = case(2, 4, 4, 3, 5, 1)
    options = FeedbackOptions(template=template, ignore_labels=(255,))
    wanted = slow_loss(features, labels, features, options)
    assert feedback_loss(features, labels, None, options).item() == pytest.approx(wanted, abs=1e-12)


# two classes, three pixels: (3, 4) is class 0's best, (0, 2) class 1's
FEATURES = torch.tensor([[[[3.0, 1, 0]], [[4.0, 0, 2]]]])
LABELS = torch.tensor([[[0, 0, 1]]])


def test_by_hand():
    scores = torch.tensor([[[[9.0, 1, 0]], [[0.0, 0, 1]]]])
    pull = ((1 - 1) + (1 - 0.6)) / 2
    # class 0's template with class 1's pixel, class 1's with class 0's two pixels
    push = 0.8, (0.8 + 0) / 2
    options = FeedbackOptions(eps=1e-12)
    found = feedback_loss(FEATURES, LABELS, scores, options).item()
    assert found == pytest.approx((pull + 0) / 2 + sum(push) / 2, rel=1e-6)
    options = FeedbackOptions(eps=1e-12, pull_weight=0, push_weight=3, margin=0.5)
    found = feedback_loss(FEATURES, LABELS, scores, options).item()
    assert found == pytest.approx(3 * (0.3 + 0.3 / 2) / 2, rel=1e-6)


def test_candidates_are_predicted_right_where_any_is():
    # pixel 0 scores highest for class 0, but class 1 scores higher there
    scores = torch.tensor([[[[9.0, 1, 0]], [[10.0, 0, 1]]]])
    options = FeedbackOptions(push_weight=0, eps=1e-12)
    anyone = FeedbackOptions(push_weight=0, eps=1e-12, correct_only=False)
    features = FEATURES.clone().requires_grad_()
    feedback_loss(features, LABELS, scores, options).backward()
    assert features.grad[0, :, 0, 0].abs().sum() > 0.01
    assert features.grad[0, :, 0, 1].abs().max() < 1e-6  # it is the template
    features.grad = None
    feedback_loss(features, LABELS, scores, anyone).backward()
    assert features.grad[0, :, 0, 0].abs().max() < 1e-6


def test_a_pixel_no_class_scores_higher_at_is_right():
    scores = torch.tensor([[[[5.0, 1, 0]], [[5.0, 0, 1]]]])
    features = FEATURES.clone().requires_grad_()
    feedback_loss(features, LABELS, scores, FeedbackOptions(push_weight=0)).backward()
    assert features.grad[0, :, 0, 0].abs().max() < 1e-6


def test_first_in_row_order_on_ties():
    scores = torch.zeros(1, 2, 1, 3)
    features = FEATURES.clone().requires_grad_()
    feedback_loss(features, LABELS, scores, FeedbackOptions(push_weight=0)).backward()
    assert features.grad[0, :, 0, 0].abs().max() < 1e-6
    assert features.grad[0, :, 0, 1].abs().max() > 0.01


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    ("labels", "wanted"),
    [(torch.full((1, 2, 3), 255), 0), (torch.zeros(1, 2, 3, dtype=torch.int64), None)],
)
def test_no_pixel_or_one_class(similarity, labels, wanted):
    features = torch.randn(1, 4, 2, 3, requires_grad=True)
    options = FeedbackOptions(similarity=similarity, ignore_labels=(255,))
    loss = feedback_loss(features, labels, None, options)
    loss.backward()
    pull = FeedbackOptions(similarity=similarity, ignore_labels=(255,), push_weight=0)
    assert loss.item() == feedback_loss(features, labels, None, pull).item()
    assert features.grad.isfinite().all()
    if wanted is not None:
        assert loss.item() == wanted
        assert not features.grad.any()


def test_one_pixel_of_a_class_is_its_own_template():
    features = torch.randn(1, 3, 1, 1)
    options = FeedbackOptions(eps=1e-12)
    loss = feedback_loss(features, torch.ones(1, 1, 1), None, options)
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(
    ("similarity", "features"),
    [
        ("cosine", torch.zeros(1, 3, 2, 2)),
        ("correlation", torch.full((1, 3, 2, 2), 1234.567)),
        ("correlation", torch.tensor([0.1, -3e4, 7, 1e-3]).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)),
    ],
)
def test_zero_and_constant_vectors_are_like_nothing(similarity, features, detach):
    features = features.clone().requires_grad_()
    labels = torch.tensor([[[0, 0], [1, 1]]])
    options = FeedbackOptions(similarity=similarity, detach=detach)
    loss = feedback_loss(features, labels, None, options)
    loss.backward()
    assert loss.item() == 1
    assert not features.grad.any()


def test_pixels_that_do_not_count_may_be_nan():
    features = torch.randn(1, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [2, 255]]])
    options = FeedbackOptions(ignore_labels=(255,))
    wanted = feedback_loss(features, labels, None, options)
    features[..., 1, 1] = math.nan
    features.requires_grad_()
    loss = feedback_loss(features, labels, None, options)
    loss.backward()
    assert loss.item() == wanted.item()
    assert features.grad.isfinite().all()
    assert not features.grad[..., 1, 1].any()


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 2), (2, 3, 0)])
def test_empty(shape):
    features = torch.zeros(shape, requires_grad=True)
    loss = feedback_loss(features, torch.zeros(shape[0], *shape[2:]))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (2, 3, 2, 2, 2)])
def test_any_number_of_axes(shape):
    features = torch.randn(shape)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]))
    flat = feedback_loss(features.reshape(*shape[:2], -1), labels.reshape(shape[0], -1))
    assert feedback_loss(features, labels).item() == flat.item()
    assert feedback_loss(features, labels.unsqueeze(1).float()).item() == flat.item()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-6), (torch.float64, 0)],
)
def test_dtypes(dtype, tolerance):
    features, labels, scores = case(2, 6, 4, 5, 3, 3)
    options = FeedbackOptions(ignore_labels=(255,), similarity="correlation")
    wanted = feedback_loss(features, labels, scores, options)
    given_ = features.to(dtype).requires_grad_()
    loss = feedback_loss(given_, labels, scores, options)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(wanted.item(), abs=tolerance)
    assert given_.grad.dtype == dtype
    assert given_.grad.isfinite().all()


CHOICES = list(itertools.product(SIMILARITIES, TEMPLATES, (True, False), (True, False)))


@pytest.mark.parametrize(("similarity", "template", "background", "correct_only"), CHOICES)
def test_gradients(similarity, template, background, correct_only):
    # with scores of their own, so that a difference never changes which pixel is best
    features, labels, scores = case(2, 4, 3, 2, 3, 5)
    options = FeedbackOptions(
        similarity=similarity, template=template, detach=False, correct_only=correct_only, k=2,
        margin=-0.1, pull_weight=0.7, push_weight=1.3, ignore_labels=(255,), eps=1e-2,
        include_background=background,
    )  # fmt: skip
    features.requires_grad_()

    def run(x):
        items = len(x)
        return feedback_loss(x, labels[:items], scores[:items], options)

    assert torch.autograd.gradcheck(run, (features,), eps=1e-6, atol=1e-7, rtol=1e-5)
    first = features.detach()[:1].requires_grad_()  # three classes, one of two pixels
    assert torch.autograd.gradgradcheck(run, (first,), eps=1e-6, atol=1e-6, rtol=1e-4)


@settings(max_examples=12, deadline=None)
@given(OPTIONS, st.integers(0, 1000))
def test_gradients_of_random_options(options, seed):
    features, labels, scores = case(1, 3, 3, 2, 3, seed)
    options = dataclasses.replace(options, detach=False, eps=1e-2)
    features.requires_grad_()

    def run(x):
        return feedback_loss(x, labels, scores, options)

    assert torch.autograd.gradcheck(run, (features,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_constant_template_gets_no_gradient(similarity, template):
    """The gradient with detach is that of the pixels with all templates held."""
    features, labels, scores = case(1, 4, 3, 3, 3, 7)
    options = FeedbackOptions(
        similarity=similarity, template=template, ignore_labels=(255,), margin=-0.2
    )
    features.requires_grad_()
    loss = feedback_loss(features, labels, scores, options)
    (found,) = torch.autograd.grad(loss, features)

    def held(x):
        from caffe_port.losses.feedback import choose, unit

        label = labels.flatten(1)
        counted, label = label != 255, label.masked_fill(label == 255, 0)
        weight, counts = choose(scores.flatten(2), label, counted, options)
        total = 0
        present = [c for c in range(3) if counts[0, c]]
        vectors = unit(x.flatten(2), 1, options)[0]
        for c, d in itertools.product(present, present):
            fixed = (features.detach().flatten(2)[0] * weight[0] * (label[0] == c)).sum(1)
            pixels = vectors[:, (label[0] == d) & counted[0]]
            similar = unit(fixed, 0, options) @ pixels
            if c == d:
                total = total + (1 - similar).mean() / len(present)
            else:
                pairs = len(present) * (len(present) - 1)
                total = total + (similar - options.margin).relu().mean() / pairs
        return total

    (wanted,) = torch.autograd.grad(held(features), features)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_scores_get_no_gradient():
    features, labels, scores = case(1, 4, 3, 2, 2, 1)
    scores.requires_grad_()
    options = FeedbackOptions(detach=False, ignore_labels=(255,))
    loss = feedback_loss(features.requires_grad_(), labels, scores, options)
    assert torch.autograd.grad(loss, scores, allow_unused=True) == (None,)


def test_the_module_is_the_function():
    features, labels, scores = case(2, 4, 3, 3, 3, 2)
    options = FeedbackOptions(template="mean", ignore_labels=(255,))
    module = FeedbackLoss(options)
    assert module(features, labels, scores) == feedback_loss(features, labels, scores, options)
    assert "template='mean'" in repr(module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "euclid"}, "similarity is 'euclid'; expected one of cosine, correlation"),
        ({"template": "top"}, "template is 'top'"),
        ({"k": 0}, "k is 0"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": math.inf}, "eps is inf"),
        ({"margin": 1.5}, "margin is 1.5"),
        ({"margin": math.nan}, "margin is nan"),
        ({"push_weight": math.inf}, "push_weight is inf"),
    ],
)
def test_options_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        FeedbackOptions(**options)


@pytest.mark.parametrize(
    ("features", "labels", "scores", "message"),
    [
        (torch.zeros(3), torch.zeros(3), None, r"features have shape \(3,\)"),
        (torch.zeros(2, 0, 3), torch.zeros(2, 3), None, "C > 0"),
        (torch.zeros(2, 3, 4).int(), torch.zeros(2, 4), None, "int32"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 5), None, r"labels have shape \(2, 5\)"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 5, 4), None, "expected one per pixel"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 3, 5), "the same grid"),
        (torch.zeros(2, 3, 4), torch.full((2, 4), 3), None, "label 3; expected 0 to 2"),
        (torch.zeros(2, 3, 4), torch.full((2, 4), -1.0), None, "label -1"),
        (torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 3, device="meta"), "expected one"),
    ],
)
def test_tensors_it_refuses(features, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        feedback_loss(features, labels, scores)


def test_an_unknown_path():
    with pytest.raises(UsageError, match="path is 'cuda'; expected one of auto, torch, triton"):
        feedback_loss(torch.zeros(1, 2), torch.zeros(1), path="cuda")


def test_triton_by_name_needs_a_gpu_or_its_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr("caffe_port.losses.feedback.has_triton", lambda: True)
    with pytest.raises(UsageError, match="expected CUDA"):
        feedback_loss(torch.zeros(1, 2), torch.zeros(1), path="triton")


def test_triton_by_name_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr("caffe_port.losses.feedback.has_triton", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'caffe-port\[triton\]'"):
        feedback_loss(torch.zeros(1, 2), torch.zeros(1), path="triton")


def algorithm_3(features, labels, scores, similarity):
    """The loss of algorithm 3 of the thesis (arXiv 1712.02861) for one image, by its loops.

    Args:
        features: (D, P); labels: (P,); scores: (C, P).
        similarity: equation 3.1, divided by the number of channels, or 3.2.
    """

    def sim(x, template):
        if similarity == "correlation":
            both = (template * x).mean() - x.mean() * template.mean()
            return both / (x.std(correction=0) * template.std(correction=0))
        return template @ x / (template.norm() * x.norm())

    present = labels.unique().tolist()
    loss = torch.zeros((), dtype=features.dtype)
    for label in present:
        own = [pixel for pixel, its in enumerate(labels.tolist()) if its == label]
        best = max(own, key=lambda pixel: scores[label, pixel].item())
        for pixel, its in enumerate(labels.tolist()):
            value = sim(features[:, pixel], features[:, best].detach())
            loss = loss - value if its == label else loss + value
    return loss / len(present)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("classes", [2, 3])
def test_algorithm_3_of_the_thesis(similarity, classes):
    """Where classes have equal numbers of pixels, options give it, up to a constant."""
    make, pixels = torch.Generator().manual_seed(7), 4
    features = torch.randn(1, 5, classes * pixels, generator=make).double().requires_grad_()
    scores = torch.randn(1, classes, classes * pixels, generator=make).double()
    labels = torch.arange(classes).repeat(pixels)
    options = FeedbackOptions(
        similarity=similarity, correct_only=False, margin=-1, pull_weight=pixels,
        push_weight=pixels * (classes - 1), eps=1e-30,
    )  # fmt: skip
    ours = feedback_loss(features, labels[None], scores, options)
    theirs = algorithm_3(features[0], labels, scores[0], similarity)
    assert ours.item() == pytest.approx(theirs.item() + pixels * classes, abs=1e-12)
    (wanted,) = torch.autograd.grad(theirs, features)
    (found,) = torch.autograd.grad(ours, features)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
