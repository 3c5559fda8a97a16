"""The kernels, in Triton's interpreter on the CPU, against the torch path."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_port.errors import UsageError
from caffe_port.losses import FeedbackOptions, feedback_loss
from tests.losses.test_feedback import OPTIONS, SIMILARITIES, TEMPLATES, case

pytest.importorskip("triton", minversion="3.7", reason="older interpreters do not run on NumPy 2.4")


def both(features, labels, scores, options, factor=-2.5):
    """Loss and gradient of each path, for a gradient of the loss that is not 1."""
    found = []
    for path in ("torch", "triton"):
        leaf = features.detach().requires_grad_()
        loss = feedback_loss(leaf, labels, scores, options, path=path)
        (grad,) = torch.autograd.grad(loss, leaf, torch.tensor(factor, dtype=loss.dtype))
        found.append((loss.detach(), grad))
    return found


def assert_equal_paths(features, labels, scores, options, tolerance=1e-12):
    (loss, grad), (kernel_loss, kernel_grad) = both(features, labels, scores, options)
    assert kernel_loss.dtype == loss.dtype
    assert kernel_grad.dtype == grad.dtype
    assert kernel_loss.item() == pytest.approx(loss.item(), abs=tolerance)
    peak = max(grad.abs().max().item(), 1e-30)
    assert (kernel_grad - grad).abs().max().item() <= tolerance * max(peak, 1)


PAIRS = list(itertools.product(SIMILARITIES, TEMPLATES, (True, False)))


@pytest.mark.parametrize(("similarity", "template", "detach"), PAIRS)
def test_every_option(similarity, template, detach):
    """Odd sizes, more pixels than one block has; the other options vary along."""
    background, correct_only = template != "mean", similarity == "cosine"
    options = FeedbackOptions(
        similarity=similarity, template=template, k=3, detach=detach, margin=0.3 - 0.6 * detach,
        include_background=background, correct_only=correct_only, pull_weight=0.6,
        push_weight=1.7, ignore_labels=(255, 2), eps=1e-3 if detach else 1e-6,
    )  # fmt: skip
    assert_equal_paths(*case(2, 5, 4, 5, 7, 11), options)


@settings(max_examples=10, deadline=None)
@given(OPTIONS, st.integers(1, 2), st.integers(1, 20), st.integers(1, 4), st.integers(0, 1000))
def test_random_cases(options, items, channels, classes, seed):
    assert_equal_paths(*case(items, channels, classes, 3, 5, seed), options)


@pytest.mark.parametrize("include_background", [True, False])
@pytest.mark.parametrize("correct_only", [True, False])
def test_ties(include_background, correct_only):
    options = FeedbackOptions(
        template="top-k", k=3, include_background=include_background, correct_only=correct_only,
        ignore_labels=(255,), detach=False, margin=0.1,
    )  # fmt: skip
    features, labels, scores = case(1, 5, 3, 5, 8, 3)
    assert_equal_paths(features, labels, scores.sign(), options)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_more_classes_than_bits_and_more_channels_than_a_block(similarity):
    features, _, scores = case(1, 35, 40, 2, 5, 2)
    labels = torch.randint(28, 40, (1, 2, 5))  # both words
    labels[0, 0, :3] = torch.tensor([31, 32, 39])
    options = FeedbackOptions(similarity=similarity, detach=False, margin=0.05)
    assert_equal_paths(features, labels, scores, options)


def strided(x, how):
    if how == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if how == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return torch.stack([x, x * 7], 4)[..., 0]


@pytest.mark.parametrize("how", ["channels last", "transposed", "every other element"])
def test_not_contiguous(how):
    features, labels, scores = case(2, 3, 3, 5, 3, 4)
    options = FeedbackOptions(similarity="correlation", ignore_labels=(255,), detach=False)
    assert not strided(features, how).is_contiguous()
    assert_equal_paths(strided(features, how), labels, strided(scores, how), options)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float32, 2e-6), (torch.float64, 1e-12)],
)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_dtypes(dtype, tolerance, similarity):
    """Both paths sum in float32 or more; the tolerance is the gradient's last bits."""
    features, labels, scores = case(1, 21, 4, 3, 13, 5)
    options = FeedbackOptions(similarity=similarity, template="mean", ignore_labels=(255,))
    assert_equal_paths(features.to(dtype), labels, scores.to(dtype), options, tolerance)


def test_float32_scores_with_float64_features():
    features, labels, scores = case(1, 3, 3, 3, 3, 5)
    options = FeedbackOptions(ignore_labels=(255,))
    assert_equal_paths(features, labels, scores.float(), options)
    assert_equal_paths(features.float(), labels, scores, options, 2e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("labels", [[255, 255, 255], [1, 1, 1], [0, 1, 255]])
def test_edges(similarity, labels):
    """No pixel, one class, one pixel of a class; a zero vector among them."""
    features = torch.randn(1, 3, 1, 3).double()
    features[..., 0] = 0
    options = FeedbackOptions(
        similarity=similarity, ignore_labels=(255,), detach=False, margin=-0.5
    )
    assert_equal_paths(features, torch.tensor(labels).reshape(1, 1, 3), None, options)


@pytest.mark.parametrize("value", [1234.567, -1e-3])
def test_constant_vectors_under_correlation(value):
    features = torch.full((1, 19, 1, 4), value)
    options = FeedbackOptions(similarity="correlation", detach=False)
    labels = torch.tensor([[[0, 0, 1, 1]]])
    (loss, grad), (kernel_loss, kernel_grad) = both(features, labels, None, options)
    assert loss.item() == kernel_loss.item() == 1
    assert not grad.any()
    assert not kernel_grad.any()


def test_a_far_mean_under_correlation():
    """Means and squares in one pass lose nothing against two."""
    features = (torch.randn(1, 20, 1, 6) + 3000).requires_grad_()
    labels = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    options = FeedbackOptions(similarity="correlation", margin=-0.5)
    (_, grad), (kernel_loss, kernel_grad) = both(features, labels, None, options)
    exact, _ = both(features.double(), labels, None, options)[0]
    assert kernel_loss.item() == pytest.approx(exact.item(), abs=1e-5)
    assert torch.allclose(kernel_grad, grad, atol=1e-5)


def test_pixels_that_do_not_count_may_be_nan():
    features, labels, scores = case(1, 3, 3, 3, 3, 5)
    options = FeedbackOptions(ignore_labels=(255,), similarity="correlation", detach=False)
    wanted = both(features, labels, scores, options)[0]
    assert (labels == 255).any()
    features[(labels == 255)[:, None].expand_as(features)] = torch.nan
    found = both(features, labels, scores, options)[1]
    assert found[0].item() == pytest.approx(wanted[0].item(), abs=1e-12)
    assert torch.allclose(found[1], wanted[1], atol=1e-12)


def test_a_result_repeats_bit_by_bit():
    features, labels, scores = case(2, 5, 4, 5, 9, 6)
    options = FeedbackOptions(ignore_labels=(255,), detach=False)
    first, again = (both(features.float(), labels, scores, options)[1] for _ in range(2))
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("detach", [True, False])
def test_no_similarity_is_kept(detach):
    """Beside the features: templates, and per pixel some numbers and a bit per class."""
    features, labels, scores = case(1, 8, 40, 7, 9, 6)
    options = FeedbackOptions(ignore_labels=(255,), detach=detach)
    sizes = []

    def note(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        feedback_loss(features.requires_grad_(), labels, scores, options, path="triton")
    assert max(sizes) == features.numel() < 40 * 7 * 9
    assert sum(sizes) - features.numel() <= 2 * 40 * 8 + 3 * 40 + (5 + 2) * 7 * 9


def test_differentiating_twice_is_refused():
    features, labels, scores = case(1, 3, 3, 2, 2, 5)
    options = FeedbackOptions(ignore_labels=(255,))
    features.requires_grad_()
    loss = feedback_loss(features, labels, scores, options, path="triton")
    (grad,) = torch.autograd.grad(loss, features, create_graph=True)
    with pytest.raises(UsageError, match="use path='torch'"):
        grad.sum().backward()


def test_an_empty_batch_launches_nothing():
    loss = feedback_loss(torch.zeros(0, 3, 2, 2), torch.zeros(0, 2, 2), path="triton")
    assert loss.item() == 0
