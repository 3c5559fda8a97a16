"""Which layers in place change what others compute in Caffe, and which do not."""

from __future__ import annotations

import pytest

from caffe_port.spec.ops import BUILTIN, Op, Reads, Writes, op_class
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of
from tools import record_in_place

START = INPUT + conv("c", "x")
LOSS = layer("l", "Reduction", "y", more="loss_weight: 1")
SHAPE = "reshape_param { shape { dim: 0 dim: -1 } }"


def effects(text: str, phase: str = "TRAIN") -> list[str]:
    return [effect.text for effect in spec_of(START + text, phase=phase).side_effects]


def test_a_top_that_is_overwritten_before_it_is_read_again():
    text = layer("s", "Sigmoid", "c", "y") + layer("d", "Dropout", "y", "y")
    (found,) = spec_of(START + text + LOSS, phase="TRAIN").side_effects
    assert str(found) == (
        "layer 'd' (Dropout) overwrites blob 'y', which the backward pass of layer 's' (Sigmoid) "
        "reads; give the layer in place a top of its own to avoid it"
    )
    assert not found.in_forward
    assert not effects(text + LOSS, "TEST")  # where Dropout changes nothing
    assert not effects(layer("s", "Sigmoid", "c", "s") + layer("d", "Dropout", "s", "y") + LOSS)


@pytest.mark.parametrize(
    "text",
    [
        "ReLU c c, Dropout c c",
        "BatchNorm c c, Scale c c, ReLU c c, Dropout c c",
        "Scale c c, ReLU c c",
        "Convolution c d 1, ReLU d d, Flatten d f, InnerProduct f i 2",
        "Flatten c f, ReLU f f, Reshape f g 3, InnerProduct g i 2",
        "Pooling c p 4, Dropout p p",
        "Sigmoid c s, ReLU s s",
        "ReLU c c, TanH c c, ReLU c c",
        "ReLU c c, Clip c c 5",
    ],
)
def test_layers_in_place_that_change_nothing_else(text):
    options = {
        "": "",
        "1": "convolution_param { num_output: 3 kernel_size: 1 }",
        "2": "inner_product_param { num_output: 2 }",
        "3": SHAPE,
        "4": "pooling_param { kernel_size: 2 }",
        "5": "clip_param { min: -1 max: 1 }",
    }
    made = ""
    for i, part in enumerate(text.split(", ")):
        kind, bottom, top, *more = part.split(" ")
        made += layer(f"{kind}{i}", kind, bottom, top, more=options["".join(more)])
    assert not effects(made + layer("y", "ReLU", top, "y") + LOSS)


def test_memory_that_a_layer_reads_under_another_name():
    view, relu = layer("f", "Flatten", "c", "f"), layer("r", "ReLU", "f", "f")
    late = layer("y", "Power", "c", "y") + LOSS
    (found,) = spec_of(START + view + relu + late, phase="TEST").side_effects
    assert found.in_forward
    assert found.text == (
        "layer 'r' (ReLU) overwrites blob 'f', whose memory is also blob 'c_c_0_split_1', which "
        "layer 'y' (Power) reads later"
    )
    assert not effects(view + late)
    (output,) = effects(layer("c2", "Split", "c", "a b") + layer("r", "ReLU", "a", "a"))
    assert output.endswith("whose memory is also the output 'b'")


def test_a_source_that_does_not_write_again():
    shape = "dummy_data_param { shape { dim: 2 } data_filler { %s } }"
    power = layer("p", "Power", "k", "k", "power_param { scale: 2 }")
    constant = layer("k", "DummyData", "", "k", shape % "value: 1")
    (found,) = effects(constant + power)
    assert found.endswith("which layer 'k' (DummyData) does not fill again before a pass")
    assert not effects(layer("k", "DummyData", "", "k", shape % "type: 'gaussian'") + power)
    param = layer("k", "Parameter", "", "k", "parameter_param { shape { dim: 2 } }")
    assert "layer 'k' (Parameter)" in effects(param + power)[0]


def test_flatten_behind_a_shared_diff():
    text = layer("q", "Reshape", "c", "q", SHAPE) + layer("f", "Flatten", "q", "y") + LOSS
    (found,) = spec_of(START + text, phase="TRAIN").side_effects
    assert str(found) == (
        "layer 'f' (Flatten) parts the diff of 'q' from the one it is shared with, which gets no "
        "diff; Reshape in place of the layer avoids it"
    )


def test_labels_that_a_loss_reads_again():
    loss = layer("l", "SoftmaxWithLoss", "c v")
    view = layer(
        "v", "Reshape", "y", "v", "reshape_param { shape { dim: 0 dim: 1 dim: 6 dim: 6 } }"
    )
    power = layer("p", "Power", "w", "w", "power_param { shift: 1 }")
    later = layer("w", "Flatten", "y", "w") + view + loss + power
    assert any("backward pass of layer 'l'" in text for text in effects(LABEL + later))


@pytest.mark.parametrize(
    ("writes", "reads", "spoilt"),
    [
        (Writes.ANYTHING, Reads.NOTHING, False),
        (Writes.ANYTHING, Reads.SIGN, True),
        (Writes.SAME_SIGN, Reads.SIGN, False),
        (Writes.SAME_SIGN, Reads.ELEMENTS, True),
        (Writes.SAME, Reads.ELEMENTS, False),
        (Writes.SAME, Reads.EVERYTHING, True),
        (Writes.NOTHING, Reads.EVERYTHING, False),
    ],
)
def test_what_spoils_what(writes, reads, spoilt):
    assert writes.spoils(reads) == spoilt


# of other forks, of no use in front of a layer in place, or always run on blobs
NOT_RECORDED = {
    "AutoCrop", "Axpy", "BN", "BiasChannel", "ContrastiveLoss", "ConvolutionDepthwise",
    "DenseCRFLoss", "DepthwiseConvolution", "DetectionLoss", "DomainTransform", "FeedbackLoss",
    "HingeLoss",
    "InfogainLoss", "Interp", "MaskPooling", "MultiBoxLoss",
    "MultiChannelReweightedSigmoidCrossEntropyLoss", "MultiChannelSigmoidCrossEntropyLoss",
    "MultiStageMeanfield", "MultinomialLogisticLoss",
    "Normalize", "PSROIPooling", "Padding", "Permute", "Python", "ROIPooling", "ReLU6",
    "Reorg", "ResizeBilinear", "ResizeNearestNeighbor", "ShuffleChannel",
    "SigmoidCrossEntropyBalanceLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss", "SmoothL1LossOHEM",
    "SoftmaxWithLoss", "SoftmaxWithLossOHEM", "SpatialDropout",
    "SpatialProduct", "Unpooling", "Upsample",
}  # fmt: skip


def test_every_other_type_with_a_backward_pass_is_recorded():
    texts = "".join(record_in_place.nets().values())
    types = {type for type in BUILTIN if op_class(type).has_backward()}
    assert {type for type in types if f'type: "{type}"' not in texts} == NOT_RECORDED


def test_a_custom_op_is_assumed_to_read_its_bottoms_only():
    op = Op()
    assert op.reads_bottom(0, False) == Reads.EVERYTHING
    assert op.reads_top(0, False) == Reads.NOTHING
    assert op.writes("TEST") == Writes.ANYTHING
