"""What verify takes from the recording: shapes of inputs, and parameters that no file gave."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import caffe_port
from caffe_port.cli import main
from caffe_port.errors import ParityError, WeightMismatchError
from caffe_port.parity.recording import adopt_parameters, read_recording
from tests.parity.fake import write_folder

IP = (
    'layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}" inner_product_param '
    '{{ num_output: 4 weight_filler {{ type: "gaussian" }} }} }}\n'
)
SOURCE = (
    'layer { name: "read" type: "HDF5Data" top: "data" top: "label" '
    'hdf5_data_param { source: "gone.txt" batch_size: 2 } }\n'
)
LAYERS = IP.format("first", "data") + IP.format("second", "first")
SHAPES = {"data": (2, 3), "label": (2,)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A net whose data file is elsewhere, its weights, and a recording of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(SOURCE + LAYERS)
    (tmp_path / "first.prototxt").write_text(SOURCE + IP.format("first", "data"))
    (tmp_path / "other.prototxt").write_text(SOURCE + IP.format("third", "data"))
    net = caffe_port.load("net.prototxt", input_shapes=SHAPES)
    net.save("net.caffemodel")
    for name in ("first", "other"):
        part = caffe_port.load(f"{name}.prototxt", input_shapes=SHAPES)
        if name == "first":
            part.load_state_dict(net.state_dict(), strict=False)
        part.save(f"{name}.caffemodel")
    record(tmp_path, net)
    return tmp_path


def record(folder, net, **changes):
    inputs = {"data": np.ones((2, 3), np.float32), "label": np.zeros(2, np.float32)}
    blobs = net(inputs, keep="all")
    arrays = {f"input/{name}": values for name, values in inputs.items()}
    arrays |= {f"data/{name}": blob.detach().numpy() for name, blob in blobs.items()}
    for layer in ("first", "second"):
        for i, param in enumerate(net.layer_params(layer)):
            arrays[f"param/{layer}/{i}"] = param.detach().numpy()
    arrays |= changes
    return write_folder(folder / "recording", arrays, backward=False)


def verify(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments, "--json", "result.json"])


def rows(kind):
    with open("result.json") as file:
        found = json.load(file)["rows"]
    return {row["name"]: row["verdict"] for row in found if row["kind"] == kind}


def test_data_layers_need_none_of_their_files(folder):
    result = verify("net.prototxt", "net.caffemodel", "recording")
    assert result.exit_code == 0, result.output
    assert "4 of them parameters equal bit for bit" in result.output
    assert "recorded values" not in result.output
    assert set(rows("param").values()) == {"pass"}


def test_without_weights_the_recorded_parameters_are_used_and_named(folder):
    result = verify("net.prototxt", "recording")
    assert result.exit_code == 0, result.output
    assert "4 parameters have the recorded values, as no weights were given for them" in (
        " ".join(result.output.split())
    )
    assert rows("param") == dict.fromkeys(
        ("first/0", "first/1", "second/0", "second/1"), "not recorded"
    )
    assert rows("data") == dict.fromkeys(("data", "label", "first", "second"), "pass")


def test_what_a_weight_file_lacks_is_taken_from_the_recording(folder):
    result = verify("net.prototxt", "first.caffemodel", "recording")
    assert result.exit_code == 0, result.output
    assert "2 parameters have the recorded values" in result.output
    assert "second/0, second/1." in result.output
    assert rows("param")["first/0"] == "pass"
    assert rows("param")["second/0"] == "not recorded"


def test_a_parameter_of_the_file_is_compared_all_the_same(folder):
    changed = read_recording("recording").params["first", 1] + 1
    net = caffe_port.load("net.prototxt", "net.caffemodel", input_shapes=SHAPES)
    record(folder, net, **{"param/first/1": changed})
    result = verify("net.prototxt", "first.caffemodel", "recording")
    assert result.exit_code == 1
    assert rows("param")["first/1"] == "fail"


def test_weights_of_another_net_are_refused(folder):
    result = verify("net.prototxt", "other.caffemodel", "recording")
    assert result.exit_code == 2
    assert "missing" in result.output
    assert "'third'" in result.output
    assert "strict" not in result.output  # no option of this command


def test_in_python_the_same_message_names_the_argument(folder):
    net = caffe_port.load("net.prototxt", "other.caffemodel", strict=False, input_shapes=SHAPES)
    with pytest.raises(WeightMismatchError, match="strict=False accepts this"):
        adopt_parameters(net, read_recording("recording"))


def test_a_recording_without_the_parameter_says_how_to_record_it(folder):
    net = caffe_port.load("net.prototxt", "net.caffemodel", input_shapes=SHAPES)
    record(folder, net)
    archive = dict(np.load("recording/case.npz"))
    del archive["param/second/0"]
    np.savez("recording/case.npz", **archive)
    result = verify("net.prototxt", "first.caffemodel", "recording")
    assert result.exit_code == 2
    message = " ".join(result.output.split())
    assert "parameter 0 of layer 'second' is in no file of weights" in message
    assert "record without --no-params" in message


def test_a_recorded_parameter_of_another_size_is_refused(folder):
    net = caffe_port.load("net.prototxt", input_shapes=SHAPES)
    record(folder, net, **{"param/second/1": np.zeros(5, np.float32)})
    with pytest.raises(ParityError, match=r"layer 'second' has shape \[4\], in .* \[5\]"):
        adopt_parameters(net, read_recording("recording"))


def test_an_input_that_the_net_lacks_is_named(folder):
    net = caffe_port.load("net.prototxt", "net.caffemodel", input_shapes=SHAPES)
    record(folder, net, **{"input/depth": np.zeros((2, 3), np.float32)})
    result = verify("net.prototxt", "net.caffemodel", "recording")
    assert result.exit_code == 2
    assert "a shape is given for depth, which no Input or data layer makes" in (
        " ".join(result.output.split())
    )


def test_another_phase_is_named_as_the_option_of_the_command(folder):
    result = verify("net.prototxt", "net.caffemodel", "recording", "--phase", "TRAIN")
    assert result.exit_code == 2
    assert "recorded in TEST: give --phase TEST" in " ".join(result.output.split())
