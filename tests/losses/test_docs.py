"""What docs/losses.md shows works as shown."""

import dataclasses
import re

from caffe_port.losses import FeedbackOptions
from caffe_port.proto import caffe_pb2
from tests.goldens_dir import ROOT
from tests.layers.helpers import net_of

TEXT = (ROOT / "docs" / "losses.md").read_text()


def block(start):
    return re.search(rf"^```{start}(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1]


def test_the_python():
    names = {}
    exec(block("python\n"), names)
    assert names["scores"].grad.abs().max() > 0


def test_the_prototxt():
    text = (
        ("layer" + block("prototxt\nlayer"))
        .replace('"fc8_voc12"', '"b0"')
        .replace('"label_shrink"', '"b1"')
    )
    net = net_of(text, (2, 21, 5, 5), (2, 1, 5, 5), phase="TRAIN")
    options = net.module("feedback").options
    assert (options.similarity, options.ignore_labels) == ("correlation", (255,))


def test_the_table_has_every_field_and_option():
    table = set(re.findall(r"`([a-z_]+)`", TEXT[TEXT.index("| field |") :]))
    fields = set(caffe_pb2.FeedbackLossParameter.DESCRIPTOR.fields_by_name)
    assert fields <= table
    options = {field.name for field in dataclasses.fields(FeedbackOptions)}
    # ramp_up is the layer's: the function knows no iterations
    assert options == fields - {"ignore_label", "ramp_up"} | {"ignore_labels"}
