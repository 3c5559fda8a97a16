"""NetSpec: what it remembers and gives back."""

import copy
import dataclasses
import json
import subprocess
import sys

import pytest

from caffe_port import NetSpec
from caffe_port.errors import FormatError, NetError
from caffe_port.proto import caffe_pb2
from tests.goldens_dir import GOLDENS
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of

LARGEFOV = GOLDENS / "nets" / "deeplab1_largefov_v1_hole" / "net.prototxt"
TEXT = (
    INPUT
    + LABEL
    + conv("c", "x")
    + layer("r", "ReLU", "c", "c")
    + layer("l", "SoftmaxWithLoss", "c y")
)


def test_layers_by_name():
    spec = spec_of(TEXT)
    assert spec.layer("c").type == "Convolution"
    with pytest.raises(KeyError, match="'d'"):
        spec.layer("d")


def test_inputs_and_sources():
    spec = spec_of(TEXT)
    assert spec.inputs == ("x", "y")
    data = NetSpec.read(GOLDENS / "data_shapes/deeplab_imageseg_test_rect/net.prototxt",
                        variables={"ROOT": "."})  # fmt: skip
    assert data.inputs == ()
    assert data.sources[:2] == ("data", "label")


def test_it_cannot_be_changed():
    spec = spec_of(TEXT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.phase = "TRAIN"
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.layer("c").op.group = 3


def test_settings_and_text_build_it_again():
    text = TEXT + layer("s", "ReLU", "c", more='include { stage: "deploy" min_level: 2 }')
    options = {
        "phase": "TRAIN",
        "level": 2,
        "stages": ["deploy"],
        "input_shapes": {"x": (1, 3, 6, 12)},
    }
    spec = spec_of(text.replace("dim: 2 dim: 1", "dim: 1 dim: 2"), **options)
    settings = spec.settings()
    again = spec_of(
        spec.text, phase=settings["phase"], dialect=settings["dialect"],
        level=int(settings["level"]), stages=json.loads(settings["stages"]),
        input_shapes=json.loads(settings["input_shapes"]),
    )  # fmt: skip
    assert again == spec
    assert "s" in again.shapes
    assert copy.deepcopy(spec) == spec


def test_the_message_is_the_net_as_caffe_writes_it():
    spec = spec_of(TEXT + layer("t", "TanH", "c"), phase="TRAIN")
    net = spec.message()
    assert [one.name for one in net.layer] == [one.name for one in spec.layers]
    assert "c_r_0_split" in [one.name for one in net.layer]
    assert net.state.phase == caffe_pb2.TRAIN
    again = NetSpec.build(net, phase="TRAIN")
    assert [one.name for one in again.layers] == [one.name for one in spec.layers]
    assert again.shapes == spec.shapes


def test_blobs_in_a_message_are_left_out():
    spec = spec_of(TEXT.replace('name: "c" ', 'name: "c" blobs { data: 1 } '))
    assert len(spec.layer("c").message.blobs) == 1
    assert all(not one.blobs for one in spec.message().layer)


def test_multiply_adds_of_a_known_net():
    spec = spec_of(INPUT + conv("c", "x", options="num_output: 4 kernel_size: 3 group: 1"))
    assert spec.layer("c").multiply_adds == 2 * 4 * 4 * 4 * 3 * 9
    assert spec.layer("input").multiply_adds == 0


def test_reading_names_the_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + "\nlayer {")
    with pytest.raises(FormatError) as caught:
        NetSpec.read(path)
    assert (caught.value.path, caught.value.line) == (str(path), 3)


def test_needs_no_torch():
    script = (
        "import sys, caffe_port\n"
        f"spec = caffe_port.NetSpec.read({str(LARGEFOV)!r})\n"
        "assert len(spec.layers) > 30\n"
        "assert 'torch' not in sys.modules and 'h5py' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_message_without_a_required_field_is_named():
    net = caffe_pb2.NetParameter()
    net.layer.add(name="c", type="Clip", bottom=["x"], top=["y"]).clip_param.max = 1
    with pytest.raises(NetError, match=r"layer\[0\].clip_param.min"):
        NetSpec.build(net)
