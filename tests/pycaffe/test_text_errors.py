"""text_format.Merge on texts of forks, as scripts call it."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, text_format

from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.pycaffe import protobuf

FORK = 'name: "n"\nlayer {\n  name: "d" type: "CTCLoss"\n  ctc_loss_param { }\n}'


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in protobuf._FUNCTIONS:
        monkeypatch.setattr(text_format, name, getattr(text_format, name))
    protobuf.install_advice()
    protobuf.install_advice()  # twice is as once


@pytest.mark.parametrize("name", protobuf._FUNCTIONS)
def test_an_unknown_field_is_named_with_its_line_and_a_way_round(name: str) -> None:
    text = FORK.split("\n") if name.endswith("Lines") else FORK
    with pytest.raises(text_format.ParseError) as caught:
        getattr(text_format, name)(text, caffe_pb2.NetParameter())
    said = str(caught.value)
    assert said.startswith('4:3 : Message type "caffe_port.LayerParameter" has no field named')
    assert '"ctc_loss_param"' in said
    assert said.count("allow_unknown_field=True") == 1


def test_the_ways_round() -> None:
    message = text_format.Merge(FORK, caffe_pb2.NetParameter(), allow_unknown_field=True)
    assert message.layer[0].type == "CTCLoss"
    assert [field.field for field in parse_net(FORK).unknown] == ["ctc_loss_param"]


def test_an_unknown_word_of_an_enum() -> None:
    for options in ({}, {"allow_unknown_field": True}):
        with pytest.raises(text_format.ParseError, match=r"2:8 .*named CROP\. .*does not skip"):
            text_format.Merge("layers {\n type: CROP }", caffe_pb2.NetParameter(), **options)


def test_other_errors_and_messages_are_left_as_they_are() -> None:
    for text, message in (("layer { name: x }", caffe_pb2.NetParameter()), ("x: 1", any_pb2.Any())):
        with pytest.raises(text_format.ParseError) as caught:
            text_format.Merge(text, message)
        assert "allow_unknown_field" not in str(caught.value)
