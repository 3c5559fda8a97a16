"""Which layers are in: phases, levels, stages."""

import pytest

from caffe_port.errors import LayerError
from caffe_port.proto import parse_net
from caffe_port.spec.rules import filter_layers


def is_in(rules, phase="TEST", level=0, stages=()):
    net = parse_net(f'layer {{ name: "l" type: "ReLU" {rules} }}').message
    return bool(filter_layers(net, phase, level, stages))


def test_without_rules_a_layer_is_always_in():
    assert is_in("")
    assert is_in("", phase="TRAIN", level=-3, stages=["x"])


@pytest.mark.parametrize(
    ("rule", "state", "meets"),
    [
        ("phase: TRAIN", {}, False),
        ("phase: TRAIN", {"phase": "TRAIN"}, True),
        ("min_level: 2", {"level": 1}, False),
        ("min_level: 2", {"level": 2}, True),
        ("max_level: 2", {"level": 3}, False),
        ("max_level: 2", {"level": 2}, True),
        ("max_level: -1", {}, False),
        ('stage: "a" stage: "b"', {"stages": ["b"]}, False),
        ('stage: "a" stage: "b"', {"stages": ["b", "c", "a"]}, True),
        ('not_stage: "a" not_stage: "b"', {"stages": ["b"]}, False),
        ('not_stage: "a"', {"stages": ["c"]}, True),
        ('phase: TRAIN stage: "a"', {"phase": "TRAIN"}, False),
        ('phase: TRAIN stage: "a"', {"phase": "TRAIN", "stages": ["a"]}, True),
    ],
)
def test_one_rule(rule, state, meets):
    assert is_in(f"include {{ {rule} }}", **state) == meets
    assert is_in(f"exclude {{ {rule} }}", **state) != meets


def test_any_of_several_rules_is_enough():
    rules = '{0} {{ phase: TRAIN }} {0} {{ stage: "a" }}'
    assert is_in(rules.format("include"), stages=["a"])
    assert is_in(rules.format("include"), phase="TRAIN")
    assert not is_in(rules.format("include"))
    assert not is_in(rules.format("exclude"), stages=["a"])
    assert is_in(rules.format("exclude"))


def test_include_and_exclude_exclude_one_another():
    with pytest.raises(LayerError, match=r"layer 'l' \(ReLU\): both include and exclude"):
        is_in("include { phase: TRAIN } exclude { phase: TEST }")
