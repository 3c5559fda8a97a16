"""AdaptiveBiasChannel: suppression, shares, the unchanged mean."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

TEXT = (
    'type: "AdaptiveBiasChannel" bottom: "b0" bottom: "b1" top: "y" '
    "adaptive_bias_channel_param {{ {} }}"
)


def run(scores, labels, options="", dialect="deeplab2"):
    labels = torch.tensor(labels, dtype=torch.float32).reshape(len(labels), -1, 1, 1)
    return layer(TEXT.format(options), scores.shape, labels.shape, dialect=dialect)(scores, labels)[
        0
    ]


def slow(scores, labels, iterations, background, foreground, margin):
    """One item, pixel by pixel, for labels that need no shuffling."""
    out = scores.astype(np.float64).copy()
    count = out.shape[1]
    for p in range(count):
        least = min(out[c, p] for c in labels)
        for c in range(len(out)):
            if c not in labels and out[c, p] > least:
                out[c, p] = least - margin
    best = np.array([max(out[c, p] for c in labels) for p in range(count)])
    mean = best.mean()
    for _ in range(iterations):
        for c in labels:
            portion = background if c == 0 else foreground
            nth = int(np.float32(portion) * np.float32(count))
            out[c] += np.sort(best - out[c])[nth]
            best = np.maximum(best, out[c])
    return out + mean - best.mean()


def test_against_a_loop():
    scores = torch.rand(2, 4, 5, 6)
    y = run(scores, [[0, 2, -1], [3, -1, -1]], "num_iter: 3 bg_portion: 0.4 fg_portion: 0.3")
    for item, labels, got in zip(scores, ([0, 2], [3]), y, strict=True):
        wanted = slow(item.flatten(1).numpy(), labels, 3, 0.4, 0.3, 1e-5)
        assert np.allclose(got.flatten(1).numpy(), wanted, atol=1e-6)


def test_a_label_wins_its_share():
    scores = torch.zeros(1, 3, 1, 10)
    scores[0, 0] = torch.arange(1.0, 11)
    y = run(scores, [[0, 1]], "fg_portion: 0.25 bg_portion: 0")
    # the third smallest lead of the background is 3: label 1 then ties or wins three pixels
    assert (y[0, 1] >= y[0, 0]).sum().item() == 3


def test_the_mean_of_the_best_score_stays():
    scores = torch.rand(1, 4, 5, 5)
    y = run(scores, [[0, 2, 3]], "num_iter: 2 bg_portion: 0.5 fg_portion: 0.5")
    present = [0, 2, 3]
    assert torch.allclose(y[0, present].amax(0).mean(), scores[0, present].amax(0).mean())


def test_absent_labels_are_lowered_only_where_they_win():
    scores = torch.tensor([[[[1.0, 5]], [[3, 3]], [[2, 9]]]])
    y = run(scores, [[1]], "margin_others: 0.5")
    assert y[0, :, 0].tolist() == [[1, 2.5], [3, 3], [2, 2.5]]
    assert torch.equal(run(scores, [[1]], "suppress_others: false"), scores)


def test_an_item_without_labels_stays():
    scores = torch.rand(1, 3, 2, 2)
    assert torch.equal(run(scores, [[-1, -1]]), scores)


def test_the_same_labels_in_any_order_give_the_same():
    scores = torch.rand(1, 5, 4, 4)
    options = "num_iter: 3"
    assert torch.equal(run(scores, [[4, 0, 2]], options), run(scores, [[2, 4, 0]], options))


def test_a_portion_of_1_takes_the_last_pixel():
    scores = torch.tensor([[[[3.0, 1]], [[0, 0]]]])
    y = run(scores, [[0, 1]], "fg_portion: 1 bg_portion: 0 suppress_others: false")
    assert (y[0, 1] >= y[0, 0]).all()


def test_it_changes_no_bottom_and_gives_no_diff():
    scores = torch.rand(1, 3, 2, 2, requires_grad=True)
    before = scores.detach().clone()
    y = run(scores, [[0, 1]])
    assert not y.requires_grad
    assert torch.equal(scores.detach(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("num_iter: 0", "num_iter is 0"),
        ("bg_portion: 1.5", "bg_portion is 1.5"),
        ("fg_portion: -1", "fg_portion is -1"),
        ("margin_others: -1", "margin_others is -1"),
    ],
)
def test_options_it_refuses(options, message):
    with pytest.raises(LayerError, match=message):
        run(torch.rand(1, 3, 2, 2), [[0]], options)


def test_bottoms_it_refuses():
    with pytest.raises(LayerError, match="label 3; expected 0 to 2"):
        run(torch.rand(1, 3, 2, 2), [[3]])
    with pytest.raises(LayerError, match="two channels"):
        run(torch.rand(1, 1, 2, 2), [[0]])
    with pytest.raises(LayerError, match="labels of shape"):
        run(torch.rand(1, 3, 2, 2), [[0], [1]])
