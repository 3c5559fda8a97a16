"""caffe-port convert: there and back, and what it refuses."""

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.weights import read_weights
from tests.goldens_dir import GOLDENS

CASE = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
NET, WEIGHTS = CASE / "net.prototxt", CASE / "net.caffemodel"


def run(*args):
    return CliRunner().invoke(main, ["convert", *map(str, args)])


def blobs(path):
    return {
        (layer.name, i): blob.data.reshape(-1).copy()
        for layer in read_weights(path).layers
        for i, blob in layer.numbered()
    }


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "caffemodel", "caffemodel.h5"])
def test_there_and_back_gives_the_same_blobs(tmp_path, suffix):
    there, back = tmp_path / f"there.{suffix}", tmp_path / "back.caffemodel"
    result = run(NET, WEIGHTS, "-o", there)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{there}: 16 layers with ")
    source = [there] if suffix in ("pt", "safetensors") else [NET, there]
    assert run(*source, "-o", back).exit_code == 0
    want, got = blobs(WEIGHTS), blobs(back)
    assert want.keys() == got.keys()
    assert all(np.array_equal(want[key], got[key]) for key in want)


def test_variables_and_leniency(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(NET.read_text().replace('name: "fc6"', 'name: "fc6_${EXP}"'))
    out = tmp_path / "out.pt"
    refused = run(net, WEIGHTS, "-o", out)
    assert refused.exit_code == 2
    assert "${EXP} has no value" in refused.output
    strict = run(net, WEIGHTS, "-o", out, "--set", "EXP=voc12")
    assert strict.exit_code == 2
    assert "missing: layer 'fc6_voc12', blob 0" in strict.output
    assert not out.exists()
    lenient = run(net, WEIGHTS, "-o", out, "--set", "EXP=voc12", "--lenient")
    assert lenient.exit_code == 0, lenient.output
    assert "kept its filler: layer 'fc6_voc12', blob 0" in lenient.output
    assert "not in the net: layer 'fc6' with 2 blobs" in lenient.output
    assert out.exists()


def test_what_cannot_be_converted(tmp_path):
    out = tmp_path / "out.pt"
    for args, words in [
        ([NET, "-o", out], "a prototxt needs WEIGHTS"),
        ([NET, WEIGHTS], "nothing to write"),
        ([NET, WEIGHTS, "-o", tmp_path / "out.zip"], "unknown suffix"),
        ([NET, NET, "-o", out], "net.prototxt"),
        ([WEIGHTS, WEIGHTS, "-o", out], "expected prototxt"),
        ([tmp_path / "none", WEIGHTS, "-o", out], "does not exist"),
    ]:
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert words in result.output
    assert list(tmp_path.iterdir()) == []


def test_converting_onto_itself(tmp_path):
    first = tmp_path / "net.pt"
    assert run(NET, WEIGHTS, "-o", first).exit_code == 0
    before = blobs(first)
    assert run(first, "-o", first).exit_code == 0
    after = blobs(first)
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert list(tmp_path.iterdir()) == [first]
