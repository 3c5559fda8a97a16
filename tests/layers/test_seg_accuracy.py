"""SegAccuracy: the three measures, batches, ties."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

TEXT = 'type: "SegAccuracy" bottom: "b0" bottom: "b1" top: "y" seg_accuracy_param {{ {} }}'


def scored(predicted, classes=4):
    """Scores (1, C, 1, W) whose highest is the wanted class."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).T.float()[None, :, None]


def blob(labels):
    return torch.tensor(labels, dtype=torch.float32).reshape(1, 1, 1, -1)


def made(options="", classes=4, width=4):
    return layer(TEXT.format(options), (1, classes, 1, width), (1, 1, 1, width))


def run(predicted, labels, options="", classes=4):
    (y,) = made(options, classes, len(labels))(scored(predicted, classes), blob(labels))
    assert y.shape == (1, 1, 1, 3)
    return y.flatten().tolist()


def test_by_hand():
    # class 0: 1 of 2 right, union 2; class 1: 1 of 1, union 2; class 2: 1 of 1; class 3: absent
    assert run([0, 1, 1, 2], [0, 0, 1, 2]) == pytest.approx(
        [3 / 4, (1 / 2 + 1 + 1) / 3, (1 / 2 + 1 / 2 + 1 + 1) / 4]
    )


def test_a_class_only_predicted_counts_0_in_iou_and_not_in_recall():
    assert run([3, 0], [0, 0]) == pytest.approx([1 / 2, 1 / 2, (1 / 2 + 1 + 1 + 0) / 4])


def test_ties_go_to_the_highest_class():
    (y,) = made("", 3, 1)(torch.zeros(1, 3, 1, 1), blob([2]))
    assert y[..., 0].item() == 1
    (y,) = made("", 3, 1)(torch.zeros(1, 3, 1, 1), blob([0]))
    assert y[..., 0].item() == 0


def test_several_ignored_labels():
    options = "ignore_label: 255 ignore_label: 3"
    assert run([0, 1, 2, 3], [0, 3, 255, 1], options) == pytest.approx([1 / 2, 1 / 2, 2 / 4])


def test_nothing_counted():
    assert run([0, 1], [255, 255], "ignore_label: 255") == [0, 0, 1]


def test_batches_accumulate_without_reset():
    first, second = (scored([0, 0]), blob([0, 1])), (scored([1, 1]), blob([1, 1]))
    module = made("reset: false", 4, 2)
    module(*first)
    (y,) = module(*second)
    both = run([0, 0, 1, 1], [0, 1, 1, 1])
    assert y.flatten().tolist() == pytest.approx(both)
    fresh = made("reset: true", 4, 2)
    fresh(*first)
    assert fresh(*second)[0].flatten().tolist() == pytest.approx(run([1, 1], [1, 1]))


def test_no_state_is_saved_and_no_diff_given():
    module = made()
    (y,) = module(scored([0, 1, 1, 2]).requires_grad_(), blob([0, 0, 1, 2]))
    assert not y.requires_grad
    assert not module.state_dict()


@pytest.mark.parametrize("label", [4, -1, 255])
def test_a_label_outside_is_refused(label):
    with pytest.raises(LayerError, match=f"label {label}; expected 0 to 3"):
        run([0, 0], [0, label])


@pytest.mark.parametrize("labels", [(1, 2, 1, 4), (1, 1, 1, 3), (1, 4)])
def test_shapes_it_refuses(labels):
    with pytest.raises(LayerError, match="labels of shape"):
        layer(TEXT.format(""), (1, 4, 1, 4), labels)
