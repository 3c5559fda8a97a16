"""Which layers are in: phases, levels, stages."""

import pytest

from caffe_port.errors import LayerError, NetError, speaking
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.spec import NetSpec
from caffe_port.spec.rules import filter_layers


def is_in(rules, phase="TEST", level=0, stages=()):
    net = parse_net(f'layer {{ name: "l" type: "ReLU" {rules} }}').message
    return bool(filter_layers(net, caffe_pb2.NetState(phase=phase, level=level, stage=stages)))


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


def test_the_stages_of_the_nets_own_state_count_as_in_caffe():
    """Net's constructor sets phase and level over the file's own and adds the stages."""
    text = 'state { phase: TRAIN level: 3 stage: "own" }'
    for name, rule in {
        "own": 'stage: "own"', "both": 'stage: "own" stage: "given"', "level": "min_level: 2",
        "train": "phase: TRAIN",
    }.items():  # fmt: skip
        text += f' layer {{ name: "{name}" type: "DummyData" top: "{name}" include {{ {rule} }} '
        text += "dummy_data_param { shape { dim: 1 } } }"
    message = parse_net(text).message
    assert NetSpec.build(message).sources == ("own",)
    spec = NetSpec.build(message, phase="TRAIN", level=2, stages=["given", "own"])
    assert spec.sources == ("own", "both", "level", "train")
    assert spec.stages == ("own", "given")


@pytest.mark.parametrize(
    ("interface", "rule", "words"),
    [
        ("python", "include { phase: TRAIN }", "give phase='TRAIN'"),
        ("caffe-port", "include { phase: TRAIN }", "give --phase TRAIN"),
        ("caffe-port", 'include { stage: "a" stage: "b" }', "give --stage a,b"),
        ("python", 'include { stage: "a" stage: "b" }', "give stages=['a', 'b']"),
        ("caffe", 'include { max_level: -1 stage: "a" }', "give -level -1 -stage a"),
        ("caffe-port", "include { min_level: 2 }", "give --level 2"),
        ("caffe-port", "exclude { phase: TEST }", "give --phase TRAIN"),
        ("caffe", "include { phase: TRAIN }", None),
        ("caffe-port", 'exclude { not_stage: "a" }', None),
        ("caffe-port", 'include { phase: TRAIN not_stage: "given" }', None),
    ],
)
def test_a_missing_bottom_says_which_layer_makes_it_and_how_to_include_that(interface, rule, words):
    text = f"""layer {{ name: "d" type: "DummyData" top: "x" {rule}
        dummy_data_param {{ shape {{ dim: 1 }} }} }}
        layer {{ name: "r" type: "ReLU" bottom: "x" top: "x" }}"""
    with speaking(interface), pytest.raises(NetError) as caught:
        NetSpec.build(parse_net(text).message, stages=["given"])
    message = str(caught.value)
    assert "layer 'r' (ReLU): bottom 0 is 'x', which no layer makes in phase TEST" in message
    assert f"layer 'd' (DummyData) has {' '.join(rule.split())}" in message
    assert message.endswith(words) if words else "give" not in message.replace("given", "")


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
