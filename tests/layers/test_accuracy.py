"""Accuracy: both tie rules, top k, ignored labels, classes."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

TEXT = 'type: "Accuracy" bottom: "b0" bottom: "b1" top: "y"'
SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.3, 0.3, 0.4], [0.2, 0.6, 0.2]])


def run(labels, options="", scores=SCORES, dialect="bvlc", text=TEXT):
    labels = torch.tensor(labels, dtype=torch.float32)
    text = f"{text} accuracy_param {{ {options} }}"
    return layer(text, scores.shape, labels.shape, dialect=dialect)(scores, labels)


def test_a_tie_is_wrong_in_bvlc():
    (y,) = run([1, 1, 2, 0])
    assert y.shape == ()
    assert y.item() == 0.5


@pytest.mark.parametrize(("label", "right"), [(0, 0.0), (1, 1.0)])
def test_in_the_forks_the_highest_class_wins_a_tie(label, right):
    assert run([label], scores=SCORES[1:2], dialect="deeplab2")[0].item() == right
    assert run([label], scores=SCORES[1:2], dialect="bvlc")[0].item() == 0.0


def test_top_2_counts_the_second_best():
    assert run([1, 1, 2, 0], "top_k: 2")[0].item() == 0.75
    assert run([2, 0, 2, 2], "top_k: 2", dialect="deeplab2")[0].item() == 1.0


def test_the_second_top_has_each_class_and_0_for_absent_ones():
    total, each = run([1, 1, 2, 1], text=TEXT + ' top: "classes"')
    assert total.item() == 0.75
    assert torch.allclose(each, torch.tensor([0, 2 / 3, 1]))


def test_ignored_labels_do_not_count():
    assert run([1, 255, 2, 255], "ignore_label: 255")[0].item() == 1.0


@pytest.mark.parametrize("dialect", ["bvlc", "deeplab2"])
def test_nothing_counted_gives_0(dialect):
    text = TEXT + ' top: "classes"'
    total, each = run([255] * 4, "ignore_label: 255", dialect=dialect, text=text)
    assert total.item() == 0
    assert not each.any()


@pytest.mark.parametrize("dialect", ["bvlc", "deeplab2"])
@pytest.mark.parametrize("wrong", [3, 255, -1])
def test_labels_that_are_not_classes_do_not_count_with_one_warning(wrong, dialect):
    """As SegNet's nets have them: void is label 11 of 11 classes."""
    text = TEXT + ' top: "classes" accuracy_param { ignore_label: 7 }'
    labels = torch.tensor([1.0, wrong, 2, 7])
    made = layer(text, SCORES.shape, labels.shape, dialect=dialect)
    said = rf"1 of 4 labels are not classes, 0 to 2, such as {wrong}; .*ignore_label: {wrong} }}"
    with pytest.warns(UserWarning, match=said) as caught:
        total, each = made(SCORES, labels)
    assert len(caught) == 1
    assert total.item() == 1.0
    assert each.tolist() == [0, 1, 1]
    assert made(SCORES, labels)[0].item() == 1.0  # a second warning would fail the test


def test_maps_of_scores_along_any_axis():
    scores = torch.zeros(1, 3, 1, 2)
    scores[0, 2, 0, 0] = scores[0, 1, 0, 1] = 1
    assert run([[[[2, 0]]]], scores=scores)[0].item() == 0.5
    moved = scores.permute(0, 2, 3, 1).contiguous()
    assert run([[[2, 0]]], "axis: -1", scores=moved)[0].item() == 0.5


def test_it_gives_no_diff():
    scores = SCORES.clone().requires_grad_()
    assert not run([1, 1, 2, 0], scores=scores)[0].requires_grad


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1, 1], "", "2 labels"),
        ([1, 1, 1, 1], "top_k: 4", "more than the 3 classes"),
        ([1, 1, 1, 1], "top_k: 0", "top_k is 0"),
        ([1, 1, 1, 1], "axis: 2", "axis 2"),
    ],
)
def test_what_it_refuses(labels, options, message):
    with pytest.raises(LayerError, match=message):
        run(labels, options)
