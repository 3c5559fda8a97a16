"""caffe-port verify: output files and exit statuses."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from caffe_port import loading
from caffe_port.cli import main
from caffe_port.errors import FormatError
from tests.parity.fake import FakeNet, record

LEARN = ("conv1", "conv2")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Invokes the command on a fake net; ``--set BAD=1`` makes the net wrong."""
    calls = []

    def load(net, weights, *, phase, variables, **_):
        calls.append((net.name, weights and weights.name, phase, variables))
        change = {"pool1": lambda x: x * 1.01} if "BAD" in variables else {}
        if "BROKEN" in variables:
            raise FormatError("broken", path=net, line=3)
        port = FakeNet(change=change, phase=phase)
        names = [(layer.name, i) for layer in port.spec.layers for i in (0, 1)]
        port.loaded = SimpleNamespace(pairs=[(*name, None) for name in names if name[0] in LEARN])
        return port

    monkeypatch.setattr(loading, "load", load)
    for name in ("net.prototxt", "w.caffemodel"):
        (tmp_path / name).write_bytes(b"x")
    record(tmp_path / "recording")

    def invoke(*arguments, recording="recording", files=("net.prototxt", "w.caffemodel")):
        paths = [str(tmp_path / name) for name in (*files, recording)]
        return CliRunner().invoke(main, ["verify", *paths, *arguments])

    invoke.calls = calls
    return invoke


def test_status_0_when_all_passes(run):
    result = run()
    assert result.exit_code == 0, result.output
    assert "compared arrays pass" in result.output
    assert run.calls == [("net.prototxt", "w.caffemodel", "TEST", {})]


def test_a_converted_model_needs_no_weights(run):
    assert run(files=["net.prototxt"]).exit_code == 0
    assert run.calls[0][:2] == ("net.prototxt", None)


@pytest.mark.parametrize("files", [[], ["net.prototxt"] * 3])
def test_two_or_three_paths(run, files):
    result = run(files=files)
    assert result.exit_code == 2
    assert "NET [WEIGHTS] RECORDING" in result.output


def test_status_1_when_something_fails(run):
    result = run("--set", "BAD=1")
    assert result.exit_code == 1
    assert "First bad layer: 'pool1'" in result.output


def test_isolated_and_variables_with_equals_signs(run):
    result = run("--isolate", "--set", "EXP=a=b")
    assert result.exit_code == 0, result.output
    assert "each layer on Caffe's bottoms" in result.output
    assert run.calls[0][3] == {"EXP": "a=b"}


def test_reports_are_written(run, tmp_path):
    result = run("-o", str(tmp_path / "out"), "--json", str(tmp_path / "deep" / "r.json"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    same = [tmp_path / "out" / "report.json", tmp_path / "deep" / "r.json"]
    assert json.loads(same[0].read_text()) == json.loads(same[1].read_text())


def test_a_failing_verification_writes_its_report_too(run, tmp_path):
    assert run("--set", "BAD=1", "-o", str(tmp_path / "out")).exit_code == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text())["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "recording", "reason"),
    [
        (["--set", "BAD"], "recording", "expected NAME=VALUE"),
        (["--set", "=1"], "recording", "expected NAME=VALUE"),
        (["--set", "BROKEN=1"], "recording", "line 3: broken"),
        (["--phase", "TRAIN"], "recording", "built for phase TRAIN"),
        (["--phase", "NONE"], "recording", "NONE"),
        ([], "nothing", "does not exist"),
        ([], "net.prototxt", "HDF5"),
    ],
)
def test_status_2_when_it_cannot_be_compared(run, arguments, recording, reason):
    result = run(*arguments, recording=recording)
    assert result.exit_code == 2
    assert reason in result.output
    assert "Traceback" not in result.output


def test_unwritable_report_is_status_2(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert run("-o", str(tmp_path / "file" / "out")).exit_code == 2
