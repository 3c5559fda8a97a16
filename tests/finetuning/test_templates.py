"""Similarities of classes: against a loop over pixels, and against the loss itself."""

import numpy as np
import pytest
import torch

from caffe_port.finetuning.variants import Similarities
from caffe_port.losses import FeedbackOptions, feedback_loss

CLASSES, IGNORED = 4, 255


def example(seed, present):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(1, CLASSES, 5, 6))
    labels = random.choice([*present, IGNORED], size=(5, 6))
    return torch.from_numpy(scores), labels


def slow(scores, labels, similarity):
    """(C, C) of one image, NaN where a class is absent, pixel by pixel."""
    flat, label = scores[0].numpy().reshape(CLASSES, -1), labels.ravel()
    found = np.full((CLASSES, CLASSES), np.nan)
    for c in range(CLASSES):
        pixels = [p for p in range(len(label)) if label[p] == c]
        right = [p for p in pixels if flat[:, p].argmax() == c] or pixels
        if not pixels:
            continue
        template = flat[:, max(right, key=lambda p: flat[c, p])]
        for d in range(CLASSES):
            others = [flat[:, p] for p in range(len(label)) if label[p] == d]
            if others:
                found[c, d] = np.mean([alike(template, f, similarity) for f in others])
    return found


def alike(t, f, similarity):
    if similarity == "correlation":
        t, f = t - t.mean(), f - f.mean()
    return t @ f / (np.sqrt(t @ t + 1e-6) * np.sqrt(f @ f + 1e-6))


@pytest.mark.parametrize("similarity", ["cosine", "correlation"])
def test_means_over_images(similarity):
    found = Similarities(CLASSES, similarity)
    images = [example(1, [0, 1, 2]), example(2, [1, 2]), example(3, [0, 2])]
    for scores, labels in images:
        found.add(scores, labels)
    stack = np.array([slow(*image, similarity) for image in images])
    known = ~np.isnan(stack)
    with np.errstate(invalid="ignore"):
        expected = np.where(known, stack, 0).sum(0) / known.sum(0)
    assert np.isnan(found.means()[3]).all()
    assert np.isnan(found.means()[:, 3]).all()
    np.testing.assert_allclose(found.means(), expected, atol=1e-12)


def test_the_diagonal_is_the_pull_and_the_rest_the_push():
    scores, labels = example(5, [0, 1, 3])
    found = Similarities(CLASSES, "cosine")
    found.add(scores, labels)
    means = found.means()
    label = torch.from_numpy(labels)[None]
    options = {"ignore_labels": (IGNORED,), "margin": -1.0}
    pull = feedback_loss(scores, label, options=FeedbackOptions(push_weight=0, **options))
    push = feedback_loss(scores, label, options=FeedbackOptions(pull_weight=0, **options))
    own = np.eye(CLASSES, dtype=bool)
    assert float(pull) == pytest.approx(1 - np.nanmean(means[own]))
    assert float(push) == pytest.approx(1 + np.nanmean(means[~own]))
