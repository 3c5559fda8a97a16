"""Which shapes of bottoms the losses and Accuracy take, and what they give: asked of Caffe 1.0.

Every loss layer of Caffe refuses bottoms whose first dimensions differ (loss_layer.cpp, Reshape:
"The data and label should have the same first dimension"), also where the numbers of values agree.
Accuracy is not a loss layer in Caffe. The values are those of Debian 11's package.
"""

import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.spec.ops import BUILTIN, op_class
from tests.layers.helpers import layer

FIRST_AXIS = "expected as many"
REFUSED = [
    ("SoftmaxWithLoss", "softmax_param { axis: 0 }", (4, 3), (1, 3)),
    ("SoftmaxWithLoss", "softmax_param { axis: -2 }", (4, 3), (3,)),
    ("SoftmaxWithLoss", "", (4, 3), (1, 4)),
    ("SoftmaxWithLoss", "softmax_param { axis: 2 }", (2, 3, 4), (6,)),
    ("SoftmaxWithLoss", "softmax_param { axis: 0 }", (1, 3), (3,)),
    ("InfogainLoss", "", (4, 3), (1, 4), (1, 1, 3, 3)),
    ("InfogainLoss", "infogain_loss_param { axis: 0 }", (4, 3), (3,), (1, 1, 4, 4)),
    ("EuclideanLoss", "", (2, 6), (3, 4)),
    ("EuclideanLoss", "", (4, 3), (1, 12)),
    ("SigmoidCrossEntropyLoss", "", (2, 6), (3, 4)),
    ("HingeLoss", "", (4, 3), (1, 4)),
    ("HingeLoss", "", (4, 3), (5,)),
    ("MultinomialLogisticLoss", "", (4, 3), (1, 4)),
    ("ContrastiveLoss", "", (2, 3), (4, 3), (2,)),
    ("SmoothL1Loss", "", (2, 6), (3, 4)),
    ("MultiBoxLoss", "multibox_loss_param { num_classes: 2 }", (2, 4), (1, 2), (1, 2, 4),
     (1, 1, 1, 8)),
    ("DetectionLoss", "detection_loss_param { cls_num: 2 field_h: 9 field_w: 9 "
     "downsample_rate: 4 }", (2, 6, 3, 4), (1, 6, 3, 4)),
    ("SigmoidCrossEntropyBalanceLoss", "", (2, 6), (3, 4)),
    ("MultiChannelSigmoidCrossEntropyLoss", "", (2, 3, 4, 5), (1, 1, 4, 5)),
    ("MultiChannelReweightedSigmoidCrossEntropyLoss", "", (2, 3, 4, 5), (1, 1, 4, 5)),
    ("DenseCRFLoss", "", (2, 3, 4, 5), (1, 2, 4, 5)),
]  # fmt: skip
TAKEN = [
    ("SoftmaxWithLoss", "softmax_param { axis: 0 }", 1.3489245176315308, (3, 3), (3,)),
    ("EuclideanLoss", "", 0.25499996542930603, (2, 6), (2, 2, 3)),
    ("SigmoidCrossEntropyLoss", "", 3.545654058456421, (2, 6), (2, 3, 2)),
    ("HingeLoss", "", 3.8500001430511475, (4, 3), (4, 1, 1)),
    ("MultinomialLogisticLoss", "", 2.3025851249694824, (4, 3), (4, 1, 1)),
    ("ContrastiveLoss", "", 0.24249997735023499, (2, 1), (2,), (2,)),
    ("ContrastiveLoss", "", 0.16573593020439148, (1, 3), (1, 3), ()),
    ("Accuracy", "", 0.0, (4, 3), (1, 4)),
    ("Accuracy", "", 0.0, (4, 3), (2, 2)),
    ("Accuracy", "accuracy_param { axis: 0 }", 0.0, (4, 3), (3,)),
    ("Accuracy", "", 0.0, (1, 3), ()),
]


def made(type, options, *shapes):
    bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(shapes)))
    return layer(f'type: "{type}" {bottoms} top: "y" {options}', *shapes)


def alternating(*shapes):
    """The first bottom is 0.1, 0.6, 0.1, ..; the others are 0, 1, 0, ..."""
    flat = [torch.arange(torch.Size(shape).numel()) % 2 for shape in shapes]
    values = [0.5 * flat[0] + 0.1, *(other.float() for other in flat[1:])]
    return [value.reshape(shape) for value, shape in zip(values, shapes, strict=True)]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_first_dimensions_that_differ_are_refused(case):
    with pytest.raises(LayerError, match=FIRST_AXIS):
        made(*case)


def test_every_loss_layer_is_asked():
    losses = {name for name in BUILTIN if name.endswith("Loss")}
    assert all(op_class(name).auto_top for name in losses)
    assert losses == {case[0] for case in REFUSED} | {"FeedbackLoss"}


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_other_shapes_are_accepted_as_in_caffe(case):
    type, options, wanted, *shapes = case
    (found,) = made(type, options, *shapes)(*alternating(*shapes))
    assert found.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("type", "shapes", "message"),
    [
        ("SoftmaxWithLoss", ((4, 3), ()), "bottom 1 is a scalar"),
        ("MultinomialLogisticLoss", ((4, 3), (4, 2)), "one per item"),
        ("ContrastiveLoss", ((2, 3), (2, 3), (1, 2)), "one label per pair"),
        # Caffe takes the first values of the labels, or reads beyond them
        ("HingeLoss", ((4, 3), (4, 2)), "one per item"),
        ("ContrastiveLoss", ((2, 3), (2, 3), (5,)), "one label per pair"),
        ("ContrastiveLoss", ((2, 3), (2, 3), (1,)), "one label per pair"),
    ],
)
def test_labels_that_are_not_one_each_are_refused(type, shapes, message):
    with pytest.raises(LayerError, match=message):
        made(type, "", *shapes)


def test_our_own_loss_refuses_other_first_dimensions_too():
    with pytest.raises(LayerError, match="expected 4 items"):
        made("FeedbackLoss", "", (4, 3, 2), (2, 2, 2))
