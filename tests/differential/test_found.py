"""Another Caffe that is the port agrees in every case; its faults are found, and made small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import caffe_port
from caffe_port.parity import read_recording
from caffe_port.parity.verify import verify
from caffe_port.proto import parse_net
from tools.differential import outcomes
from tools.differential.cases import Case
from tools.differential.drafts import Draft, DraftLayer
from tools.differential.nets import Catalogue
from tools.differential.one_case import run_case
from tools.differential.outcomes import Outcome
from tools.differential.running import Setting, outcome_of
from tools.differential.sides import CaffeSide, ask_port
from tools.differential.solvers import SolverDraft, draw_solver

NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 4 } }
layer { name: "r" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "t" type: "TanH" bottom: "ip" top: "t" }
layer { name: "l" type: "EuclideanLoss" bottom: "t" bottom: "ip" top: "l" }
"""
SETTING = Setting("", 5, ("layer", "net", "solver", "files"), (), "deeplab2", 120, 40)


def case(kind: str, text: str = NET, solver: SolverDraft | None = None) -> Case:
    layers = tuple(DraftLayer(layer) for layer in parse_net(text).message.layer)
    return Case(0, kind, "ReLU", Draft(layers), "TRAIN", 1, solver=solver)


def found(other: CaffeSide, catalogue: Catalogue, setting: Setting, folder: Path) -> Outcome:
    """The first case that is not good."""
    for index in range(60):
        outcome = outcome_of(other, catalogue, setting, index, folder / "work", folder)
        if not outcome.good:
            return outcome
    raise AssertionError("no difference was found")


@pytest.mark.filterwarnings("ignore::caffe_port.errors.SideEffectWarning")
@pytest.mark.parametrize("index", range(16))
def test_the_port_agrees_with_itself(
    other: CaffeSide, catalogue: Catalogue, tmp_path: Path, index: int
) -> None:
    outcome = outcome_of(other, catalogue, SETTING, index, tmp_path, tmp_path / "out")
    assert outcome.good, outcome
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["net", "solver", "files"])
def test_each_kind_agrees(other: CaffeSide, tmp_path: Path, kind: str) -> None:
    import random

    solver = draw_solver(random.Random(3)) if kind == "solver" else None
    finding = run_case(other, case(kind, solver=solver), tmp_path)
    assert finding.outcome.status == outcomes.AGREED, finding.outcome
    assert finding.answer


def test_a_wrong_value_is_found_and_its_case_shrunk(
    other: CaffeSide, catalogue: Catalogue, fault: Path, tmp_path: Path
) -> None:
    fault.write_text("value")
    only = Catalogue({type: catalogue.kinds[type] for type in ("ReLU", "Eltwise", "Bias")})
    outcome = found(other, only, replace(SETTING, kinds=("net",)), tmp_path)
    assert (outcome.status, outcome.blamed) == (outcomes.DIFFER, "ReLU")
    folder = tmp_path / outcome.folder
    net = caffe_port.load(folder / "net.prototxt", folder / "net.caffemodel", phase="TEST")
    layers = [layer.type for layer in net.spec.layers if layer.type != "Input"]
    assert layers == ["ReLU"]
    assert all(max(shape, default=1) <= 2 for shape in net.spec.shapes.values())
    recording = read_recording(folder)
    assert recording.meta.oracle == "caffe 1.0.0"
    assert not verify(net, recording).passed
    fields = json.loads((folder / "case.json").read_text())
    assert fields["notes"].startswith("differ: ")


def test_what_one_side_refuses_is_found(other: CaffeSide, fault: Path, tmp_path: Path) -> None:
    fault.write_text("refusal")
    outcome = run_case(other, case("net"), tmp_path).outcome
    assert outcome.status == outcomes.CAFFE_REFUSES
    assert outcome.message == "UsageError: no TanH here"
    assert not outcome.accepted


def test_what_the_port_refuses_alone_is_found(other: CaffeSide, tmp_path: Path) -> None:
    text = NET.replace('"EuclideanLoss"', '"Nonsense"')
    outcome = run_case(other, case("layer", text), tmp_path).outcome
    assert outcome.status == outcomes.BOTH_REFUSE
    assert "Nonsense" in outcome.message.partition("Caffe:")[0]
    assert "Nonsense" in outcome.message.partition("Caffe:")[2]


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("abort", outcomes.CAFFE_REFUSES, "Check failed: false a fault"),
        ("segmentation", outcomes.CAFFE_CRASHES, "signal 11"),
    ],
)
def test_a_crash_ends_one_case_only(
    other: CaffeSide, fault: Path, tmp_path: Path, name: str, status: str, message: str
) -> None:
    fault.write_text(name)
    outcome = run_case(other, case("net"), tmp_path).outcome
    assert (outcome.status, outcome.message) == (status, message)
    fault.unlink()
    assert run_case(other, case("net"), tmp_path).outcome.status == outcomes.AGREED


def test_a_wrong_update_is_found(other: CaffeSide, fault: Path, tmp_path: Path) -> None:
    import random

    fault.write_text("update")
    solver = draw_solver(random.Random(3))
    solver.message.type = "SGD"
    outcome = run_case(other, case("solver", solver=solver), tmp_path).outcome
    assert outcome.status == outcomes.DIFFER
    assert outcome.part in ("weights", "output")


def test_a_wrong_file_is_found(other: CaffeSide, fault: Path, tmp_path: Path) -> None:
    fault.write_text("file")
    outcome = run_case(other, case("files"), tmp_path).outcome
    assert (outcome.status, outcome.part) == (outcomes.DIFFER, "read")
    assert "the port reads Caffe's net.caffemodel" in outcome.message


def test_a_side_that_ends_is_started_again(plain_command: str) -> None:
    request = {"do": "net", "net": NET, "phase": "TEST", "seed": 1, "starts": []}
    with CaffeSide(plain_command, timeout=120) as side:
        side.about()
        assert side._process is not None
        side._process.kill()
        side._process.wait()
        assert side.ask(request, {}).ended == "crashed"
        answer = side.ask(request, {})
    assert answer.ended == "ok"
    assert answer.header["stage"] == "forward"
    mine = ask_port(request, {})
    assert np.array_equal(mine.arrays["data/t"], answer.arrays["data/t"])


def test_an_answer_that_takes_too_long(command: str) -> None:
    with CaffeSide(command, timeout=1e-3) as side:
        request = {"do": "net", "net": NET, "phase": "TEST", "seed": 1, "starts": []}
        assert side.ask(request, {}).ended == "late"
    assert ask_port(request, {}, timeout=1e-4).ended == "late"
