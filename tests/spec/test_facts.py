"""What ops declare about values, ranges and working in place."""

from __future__ import annotations

import pytest

from caffe_port.proto import caffe_pb2
from caffe_port.proto.text import parse_text
from caffe_port.spec.ops import Values, known_types, op_class

LABELS = 'type: "{}" bottom: "s" bottom: "l" top: "t" {}'


def op_of(text):
    layer, unknown = parse_text(text, caffe_pb2.LayerParameter())
    assert not unknown
    return op_class(layer.type).read(layer, {})


@pytest.mark.parametrize(
    ("text", "index", "bottoms", "values"),
    [
        (LABELS.format("SoftmaxWithLoss", "loss_param { ignore_label: 255 }"), 1,
         [(2, 5, 3), (2, 3)], Values(0, 4, whole=True, also=(255,))),
        (LABELS.format("SoftmaxWithLoss", "softmax_param { axis: -1 }"), 1,
         [(2, 5, 3), (2, 5)], Values(0, 2, whole=True)),
        (LABELS.format("SoftmaxWithLoss", ""), 0, [(2, 5), (2,)], Values()),
        (LABELS.format("HingeLoss", ""), 1, [(2, 5, 2), (2,)], Values(0, 9, whole=True)),
        (LABELS.format("MultinomialLogisticLoss", ""), 0, [(2, 5), (2,)], Values(0.05, 1)),
        (LABELS.format("Accuracy", ""), 1, [(2, 5), (2,)], Values(0, 4, whole=True)),
        (LABELS.format("BatchReindex", ""), 1, [(4, 5), (9,)], Values(0, 3, whole=True)),
        (LABELS.format("Filter", ""), 1, [(4, 5), (4,)], Values(0, 1, whole=True)),
        (LABELS.format("Crop", ""), 1, [(1, 1, 4, 4), (1, 1, 2, 2)], Values(0, 1, whole=True)),
        ('type: "Embed" embed_param { num_output: 2 input_dim: 7 }', 0, [(3,)],
         Values(0, 6, whole=True)),
        ('type: "Log" log_param { scale: 2 shift: 1 }', 0, [(3,)], Values(low=-0.475)),
        ('type: "Log" log_param { scale: -2 shift: 1 }', 0, [(3,)], Values(high=0.475)),
        ('type: "Power" power_param { power: 2 }', 0, [(3,)], Values()),
        ('type: "Power" power_param { power: 0.5 }', 0, [(3,)], Values(low=0.05)),
        ('type: "ReLU"', 0, [(3,)], Values()),
    ],
)  # fmt: skip
def test_values_of_a_bottom(text, index, bottoms, values):
    assert op_of(text).bottom_values(index, bottoms) == values


def test_a_variance_is_above_0():
    params = op_of('type: "BatchNorm"').params([(2, 3)])
    assert [param.values.low for param in params] == [None, 0.05, 0.5]


def test_ranges_name_options_of_the_type():
    fields = {
        field.name
        for kind in caffe_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in kind.fields
    }
    ranged = [op_class(type) for type in known_types() if op_class(type).option_ranges]
    assert ranged
    for kind in ranged:
        for name, (low, high) in kind.option_ranges.items():
            assert name in fields
            assert low <= high


def test_layers_that_work_in_place_have_one_top_of_the_bottoms_shape():
    in_place = {type for type in known_types() if op_class(type).in_place}
    assert {"ReLU", "Dropout", "BatchNorm", "Scale", "Softmax"} <= in_place
    for type in in_place - {"Clip"}:  # which needs options
        assert op_class(type).tops == (1, 1)
        assert op_of(f'type: "{type}"').top_shapes([(2, 3, 4, 4)]) == [(2, 3, 4, 4)]
