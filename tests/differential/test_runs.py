"""The command: results, resuming, the report, what is refused; and the frames on the wire."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from caffe_port.spec.plugins import import_own
from tests.goldens_dir import ROOT
from tools.differential import __main__ as command_line
from tools.differential import other_side, running
from tools.differential.accepted import ACCEPTED
from tools.differential.nets import Catalogue
from tools.differential.outcomes import Outcome
from tools.differential.report import Report, page_of, text_of
from tools.differential.sides import CaffeSide

KINDS = ["--kinds", "layer", "--types", "ReLU,TanH,Eltwise"]


def run(command: str, folder: Path, *more: str) -> int:
    return command_line.main(["--caffe", command, "-o", str(folder), "--jobs", "0", *more])


@pytest.fixture
def started(other: CaffeSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command uses the other Caffe that runs already."""
    for module in (command_line, running):
        monkeypatch.setattr(module, "CaffeSide", lambda *_: contextlib.nullcontext(other))


def results(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.mark.usefixtures("started")
def test_a_run_its_report_and_its_resumption(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(command, tmp_path, *KINDS, "--cases", "3") == 0
    first = results(tmp_path)
    assert [outcome["index"] for outcome in first] == [0, 1, 2]
    with (tmp_path / "results.jsonl").open("a") as stream:
        stream.write('{"index": 3, "kind"')  # interrupted while it was written
    assert run(command, tmp_path, *KINDS, "--cases", "5") == 0
    assert results(tmp_path)[:3] == first
    assert [outcome["index"] for outcome in results(tmp_path)] == [0, 1, 2, 3, 4]
    text = capfd.readouterr()
    assert re.search(r"all +5 ", text.out)
    assert "5 of 5 cases, 0 differ" in text.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"][-1]["cases"] == "5"
    assert "<h1>Differential test</h1>" in (tmp_path / "report.html").read_text()
    assert run(command, tmp_path, *KINDS, "--seed", "2") == 2
    assert "results of another run" in capfd.readouterr().err


@pytest.mark.usefixtures("started")
def test_differences_give_exit_status_1_and_run_again(
    command: str, fault: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fault.write_text("value")
    options = ["--kinds", "layer", "--types", "ReLU", "--cases", "2", "--tries", "5"]
    assert run(command, tmp_path, *options) == 1
    text = capfd.readouterr().out
    assert "layer with ReLU: differ: data" in text
    assert (tmp_path / "differences").is_dir()
    fault.unlink()
    assert run(command, tmp_path, *options) == 1  # what is known is not run again
    assert run(command, tmp_path, *options, "--retry") == 0


OWN = """
from dataclasses import dataclass
import caffe_port as cp

@cp.register_op
@dataclass(frozen=True)
class Own(cp.Op):
    type = "OwnOfATest"
"""


def test_custom_layers_are_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffe_port.spec.ops import _base

    monkeypatch.setenv("CAFFE_PORT_IMPORT", "")
    path = tmp_path / "own_of_a_test.py"
    path.write_text(OWN)
    try:
        for _ in range(2):  # once is enough
            import_own([str(path)])
        assert "OwnOfATest" in _base._ops
    finally:
        _base._ops.pop("OwnOfATest", None)
    path = tmp_path / "wrong.py"
    path.write_text("1 / 0")
    assert run("true", tmp_path / "out", "--import", str(path)) == 2
    assert f"ZeroDivisionError in {path}, line 1: division by zero" in capsys.readouterr().err
    assert run("true", tmp_path / "out", "--import", str(tmp_path / "none.py")) == 2
    assert "none.py' cannot be imported: no such file" in capsys.readouterr().err


def test_workers_survive_the_end_of_the_port(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = running.Setting(command, 1, ("layer",), ("ReLU",), "deeplab2", 120, 0)
    worker = running._Worker(setting, tmp_path)
    try:
        worker._process.kill()
        worker._process.join()
        worker.give(0)  # starts another process
        outcome = worker.take()
        assert outcome.good
        worker._process.kill()
        lost = worker.take()
        assert lost.status == "the port crashes"
        assert lost.message == "the process ended with exit status -9"
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("caffe", "message"),
    [
        ("", "--caffe is empty"),
        ("no-such-program-here", "does not start"),
        ("sh -c 'echo no caffe here >&2'", "gave no answer; .*no caffe here"),
    ],
)
def test_a_command_that_is_not_caffe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caffe: str, message: str
) -> None:
    assert run(caffe, tmp_path / "out") == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "out").exists()


def test_kinds_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse(["--caffe", "x", "--kinds", "layer,trees"])
    assert "expected some of layer,net,solver,files" in capsys.readouterr().err


def test_the_report_counts_by_type() -> None:
    found = [
        Outcome(0, "layer", "ReLU", "agreed", ("ReLU",)),
        Outcome(1, "net", "ReLU", "differ", ("ReLU", "TanH"), "TanH", "data", "data <b>"),
        Outcome(2, "net", "TanH", "Caffe crashes", ("TanH",), accepted=ACCEPTED[0].name),
        Outcome(3, "layer", "TanH", "both refuse", ("TanH",)),
        Outcome(4, "layer", "TanH", "NaN in both", ("TanH",)),
    ]
    about = {"types": ["ReLU", "Blur"], "versions": {"caffe": "1", "python": "3"}}
    kinds = {"ReLU": None, "TanH": None}
    report = Report(found, about, Catalogue(kinds, {}, ["relu_param.new"]), "command")  # type: ignore[arg-type]
    rows = {row[0]: row[1:] for row in report.rows()}
    assert rows["ReLU"] == ("1", "1", "0", "0", "0", "0")
    assert rows["TanH"] == ("4", "0", "1", "1", "1", "1")
    assert rows["all"] == ("5", "1", "1", "1", "1", "1")
    text = text_of(report)
    assert "only in this Caffe: type Blur, option relu_param.new" in text
    assert "only in the port: TanH" in text
    assert "1 net with TanH: differ: data <b>" in text
    assert "data &lt;b&gt;" in page_of(report)


def test_the_accepted_differences_are_documented() -> None:
    text = (ROOT / "docs" / "differential.md").read_text()
    (table,) = re.findall(r"^\| accepted \| what it is \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
    rows = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table.splitlines()]
    assert rows == [(known.name, known.why) for known in ACCEPTED]


def test_frames_come_back() -> None:
    arrays = {"a/b": np.float32([[1, 2]]), "c": np.float32(3), "f": np.uint8([7, 8])}
    sent = other_side.pack({"do": "x"}, arrays)
    stream = io.BytesIO(sent + sent[:-1])
    header, found = other_side.read_frame(stream)
    assert header == {"do": "x"}
    assert {name: value.shape for name, value in found.items()} == {
        "a/b": (1, 2),
        "c": (),
        "f": (2,),
    }
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert other_side.read_frame(stream) is None  # cut short
    with pytest.raises(ValueError, match="not a frame"):
        other_side.read_frame(io.BytesIO(b"x" * 40))
    claim = sent.replace(b"[1, 2]", b"[9, 9]")
    with pytest.raises(ValueError, match="goes beyond the end"):
        other_side.read_frame(io.BytesIO(claim))


def test_the_other_side_is_python_2_too() -> None:
    """Nothing in it that Python 2.7 cannot parse."""
    tree = ast.parse(Path(other_side.__file__).read_text())
    new = (ast.JoinedStr, ast.AnnAssign, ast.Nonlocal, ast.AsyncFunctionDef, ast.NamedExpr,
           ast.YieldFrom, ast.Match)  # fmt: skip
    for node in ast.walk(tree):
        assert not isinstance(node, new), ast.dump(node)
        if isinstance(node, ast.FunctionDef):
            assert not node.args.kwonlyargs
            assert node.returns is None
        if isinstance(node, ast.Raise):
            assert node.cause is None
