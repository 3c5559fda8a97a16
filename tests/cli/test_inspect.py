"""caffe-port inspect: tables and JSON."""

import json

import pytest
import torch
from click.testing import CliRunner

from caffe_port.cli import main
from tests.goldens_dir import GOLDENS
from tests.spec.making import INPUT, conv, layer

CASE = GOLDENS / "layers" / "bvlc_conv_group"


def run(*args):
    return CliRunner().invoke(main, ["inspect", *map(str, args)])


def test_a_net_as_a_table(tmp_path):
    path = tmp_path / "[net].prototxt"
    path.write_text(INPUT + conv("[c]", "x") + layer("d", "Dropout", "[c]", "d", "mine: 1"))
    result = run(path)
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    for words in (
        "[net].prototxt: net '', V2, bvlc, phase TEST", "[c]", "Convolution", "(2 x 3 x 6 x 6)",
        "parameters: 12", "multiply-adds: 648", "inputs: x", "outputs: d",
        "line 3: layer 'd': unknown field 'mine'",
    ):  # fmt: skip
        assert words in output


def test_json_is_the_listing():
    result = run(CASE / "net.caffemodel", "--json")
    assert result.exit_code == 0
    listing = json.loads(result.stdout)
    assert [row["layer"] for row in listing["rows"]] == ["op", "op"]
    assert listing["totals"]["layers with blobs"] == 1


def test_options_reach_the_net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + layer("${N}", "ReLU", "x", "t", "include { phase: TRAIN }"))
    refused = run(path)
    assert refused.exit_code == 2
    assert "line 2" in refused.output
    assert "the variable ${N} has no value; give it one: --set N=VALUE" in refused.output
    result = run(path, "--set", "N=n=1", "--phase", "TRAIN", "--input-shape", "x=1,7", "--json")
    row = json.loads(result.stdout)["rows"][1]
    assert (row["layer"], row["tops"]) == ("n=1", "t (1 x 7)")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "N"], "'N': expected NAME=VALUE"),
        (["--set", "=1"], "expected NAME=VALUE"),
        (["--input-shape", "x=1,a"], "'x=1,a': expected BLOB=1,3,513,513"),
        (["--input-shape", "x"], "expected BLOB=1,3,513,513"),
        (["--input-shape", "q=1"], "a shape is given for q, which no"),
        (["--input-shape", "x=-1"], "'x=-1': expected BLOB=1,3,513,513"),
        (["--phase", "test"], "'test' is not"),
        (["--dialect", "caffe2"], "'caffe2' is not"),
    ],
)
def test_options_that_mean_nothing(args, words):
    result = run(CASE / "net.prototxt", *args)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize("zipped", [True, False])
def test_a_plain_state_dict(tmp_path, zipped):
    state = {"a.weight": torch.ones(2, 3), "a.num_batches_tracked": torch.tensor(4)}
    path = tmp_path / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    result = run(path, "--json")
    assert result.exit_code == 0, result.output
    listing = json.loads(result.stdout)
    assert listing["title"].endswith("x.pth: pt, a plain state dict")
    assert listing["rows"] == [
        {"key": "a.weight", "shape": "2 x 3", "dtype": "float32", "count": 6},
        {"key": "a.num_batches_tracked", "shape": "", "dtype": "int64", "count": 1},
    ]
    assert listing["totals"]["tensors"] == 2
