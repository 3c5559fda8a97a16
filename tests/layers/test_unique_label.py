"""UniqueLabel: lists of labels."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

TEXT = 'type: "UniqueLabel" bottom: "b0" top: "y" unique_label_param {{ {} }}'
LABELS = torch.tensor([[[[3.0, 0, 3], [255, 7, 0]]], [[[5, 5, 5], [5, 5, 5]]]])


def run(options, labels=LABELS):
    (y,) = layer(TEXT.format(options), labels.shape)(labels)
    assert y.shape[2:] == (1, 1)
    return y.flatten(1).tolist()


def test_ascending_and_filled_up():
    assert run("max_labels: 5 ignore_label: 255") == [[0, 3, 7, -1, -1], [5, -1, -1, -1, -1]]


def test_forced_labels_even_if_ignored():
    options = "max_labels: 5 ignore_label: 255 ignore_label: 0 force_label: 0 force_label: 9"
    assert run(options) == [[0, 3, 7, 9, -1], [0, 5, 9, -1, -1]]


def test_as_many_labels_as_allowed():
    assert run("max_labels: 4")[0] == [0, 3, 7, 255]


def test_too_many_labels():
    with pytest.raises(LayerError, match="4 different labels; max_labels is 3"):
        run("max_labels: 3")


def test_options_and_shapes_it_refuses():
    with pytest.raises(LayerError, match="more than the 2 forced"):
        run("max_labels: 2 force_label: 0 force_label: 1 force_label: 0")
    with pytest.raises(LayerError, match=r"expected \(N, 1, H, W\)"):
        layer(TEXT.format("max_labels: 2"), (1, 2, 3, 3))
