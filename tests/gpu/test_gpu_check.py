"""`make gpu` on the CPU: its parts in small, crashes and limits of time, results and page."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.second_device import second_device
from tools.gpu import __main__ as command
from tools.gpu import evaluating, goldens, kernels, modes, page, parts, timing, training
from tools.gpu.outcome import Row, Setting, read_rows, within, write_rows
from tools.gpu.parts import Outcome, Part

GOOD, BAD = Row("group", "a", True, "fine", worst=0.5), Row("group", "b", False, "error | 9")


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")


def cpu(only: str) -> Setting:
    return Setting("cpu", True, only)


def passed(rows):
    """The rows, all of which passed or are figures only."""
    found = list(rows)
    assert found
    assert [row for row in found if row.failed] == []
    return found


@pytest.mark.parametrize("only", ["odd sizes, ties", "one pixel"])
def test_kernels(only):
    pytest.importorskip("triton", minversion="3.7")
    rows = passed(kernels.run(cpu(only)))
    assert {row.name.split(", ")[-1] for row in rows} == {"value", "gradient"}


@pytest.mark.parametrize("part", ["value", "gradient"])
def test_a_wrong_kernel_is_found(monkeypatch, part):
    pytest.importorskip("triton", minversion="3.7")
    right = kernels.feedback_loss

    def wrong(x, *given, path, **named):
        loss = right(x, *given, path="torch", **named)
        little = x[0].sum() * 1e-4
        little = little.detach() if part == "value" else little - little.detach()
        return loss if path == "torch" else loss + little

    monkeypatch.setattr(kernels, "feedback_loss", wrong)
    rows = list(kernels.run(cpu("odd sizes, ties")))
    assert {row.name for row in rows if row.failed} >= {f"odd sizes, ties, {part}"}


def test_goldens(monkeypatch):
    rows = passed(goldens.run(cpu("bvlc_a")))
    assert {row.group for row in rows} == {"recorded layers", "recorded solvers"}
    monkeypatch.setattr(goldens, "verify", lambda *_, **__: SimpleNamespace(
        rows=(), count=lambda _: 0,
        first_bad=SimpleNamespace(kind="data", name="y", comparison=SimpleNamespace(reason="off")),
    ))  # fmt: skip
    folder = goldens.bundled("layers")[0]
    assert goldens.compared("layers", folder, cpu(""), fastest=False).failed
    assert not goldens.compared("layers", folder, cpu(""), fastest=True).failed


def test_modes():
    rows = passed([*modes.run(cpu("optimized")), *modes.run(cpu("-checkpoint"))])
    assert [row.name for row in rows] == ["optimized", "-checkpoint"]


def test_modes_on_another_device(monkeypatch):
    """What a part gives to the device and takes from it."""
    monkeypatch.setattr(modes, "trained", lambda _: ())
    with second_device() as device:
        (row,) = passed(modes.run(Setting(str(device), True, "channels_last")))
    assert row.worst < 0.1


def test_training():
    rows = passed(training.run(cpu("NCCL")))
    assert [row.worst for row in rows] == [0, 0]
    assert not torch.distributed.is_initialized()


def test_evaluating(tmp_path):
    rows = passed(evaluating.run(cpu("whole images")))
    assert len(rows) == 4
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    assert not within("", "", evaluating.differing(tmp_path / "one", tmp_path / "other"), 1).passed


def test_timing():
    rows = passed(timing.run(cpu("feedback losses at fc8")))
    assert len(rows) == 3
    assert all(row.passed is None and row.figures["ms"] > 0 for row in rows)


def rows_of(path: Path, *rows: Row, cut: str = "") -> None:
    path.write_text("".join(f"{row.line()}\n" for row in rows) + cut)


@pytest.mark.parametrize(
    ("code", "rows", "status", "message"),
    [
        (0, (GOOD,), "passed", ""),
        (1, (GOOD, BAD), "failed", ""),
        (1, (GOOD,), "crashed", ""),
        (0, (), "nothing to check", "OutOfMemoryError: too large"),
        (-11, (GOOD,), "crashed", "OutOfMemoryError: too large"),
        (None, (GOOD,), "not finished", "its 7 s were over"),
        (None, (GOOD, BAD), "failed", "its 7 s were over"),
    ],
)
def test_what_became_of_a_part(monkeypatch, code, rows, status, message):
    """Rows that were written before a crash or the limit count, but no line that was cut off."""

    def run(words, *, timeout, env, **_):
        assert env["TRITON_INTERPRET"] == "1"
        rows_of(Path(words[words.index("--rows") + 1]), *rows, cut='{"group": "cu')
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout)
        return SimpleNamespace(returncode=code, stderr="Traceback\nOutOfMemoryError: too large\n\n")

    monkeypatch.setattr(parts.subprocess, "run", run)
    found = parts.run_part(parts.PARTS[0], cpu(""), 7)
    assert (found.status, found.rows, found.message) == (status, rows, message)


def test_a_part_in_its_own_process(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "run", lambda setting: iter([GOOD, BAD][: 2 - setting.small]))
    words = ["--device", "cpu", "--part", "training", "--rows", str(tmp_path / "rows")]
    assert command.main([*words, "--small"]) == 0
    assert read_rows(tmp_path / "rows") == [GOOD]
    assert command.main(words) == 1
    assert parts.command(Part("training", "", 1), cpu("x"), tmp_path)[3:] == [
        "--device", "cpu", "--only", "x", "--small", "--part", "training", "--rows", str(tmp_path),
    ]  # fmt: skip


def test_rows_are_kept_when_the_next_one_raises(tmp_path):
    def run():
        yield GOOD
        raise KeyError

    with pytest.raises(KeyError):
        write_rows(tmp_path / "rows", run())
    assert read_rows(tmp_path / "rows") == [GOOD]


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Runs the command where every part is ``outcomes[name]``; gives its status and what ran."""
    outcomes = dict.fromkeys(parts.NAMES, Outcome("passed", 1.0, (GOOD,)))
    ran = []

    def run_part(part, setting, seconds):
        ran.append(part.name)
        return outcomes[part.name]

    monkeypatch.setattr(command, "run_part", run_part)
    for name, path in (("RESULTS", tmp_path / "gpu.json"), ("PAGE", tmp_path / "gpu.md")):
        monkeypatch.setattr(command, name, path)
    (tmp_path / "gpu.md").write_text(f"# Page\n{page.BEGIN}\n{page.NEVER}\n{page.END}\nmore\n")

    def run(*words):
        ran.clear()
        return command.main(["--device", "cpu", "-o", str(tmp_path / "gpu.json"), *words]), [*ran]

    return run, outcomes


def test_a_second_run_repeats_what_did_not_pass(checked, tmp_path, capsys):
    run, outcomes = checked
    outcomes["modes"] = Outcome("crashed", 2.0, (GOOD,), "KeyError: 'x'")
    outcomes["timing"] = Outcome("passed", 2.0, (Row("times", "a", None, "3 ms"),))
    assert run() == (1, [*parts.NAMES])
    assert "KeyError" in capsys.readouterr().out
    assert run() == (1, ["modes"])
    outcomes["modes"] = outcomes["kernels"]
    assert run() == (0, ["modes"])
    assert run() == (0, [])
    assert run("--parts", "goldens,timing", "--again") == (0, ["goldens", "timing"])
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("# Page\n<!-- results -->\nRun on ")
    assert text.endswith("<!-- end of results -->\nmore\n")
    assert "| Times | passed | 2 |" in text
    assert "| group | all 1 pass | 0.50 |" in text
    assert "| times | a | 3 ms |" in text
    stored = json.loads((tmp_path / "gpu.json").read_text())
    stored["machine"]["torch"] = "1.0"
    (tmp_path / "gpu.json").write_text(json.dumps(stored))
    assert run("--parts", "modes") == (0, ["modes"])  # results of other versions do not count


def test_what_fails_is_on_the_page(checked, tmp_path, capsys):
    run, outcomes = checked
    outcomes["kernels"] = Outcome("failed", 1.0, (GOOD, *[BAD] * 14))
    outcomes["goldens"] = Outcome("not finished", 1.0, (GOOD,), "its 1 s were over")
    assert run("--parts", "kernels,goldens")[0] == 1
    text = (tmp_path / "gpu.md").read_text()
    assert "| group | 1 of 15 pass | 0.50 |" in text
    assert r"| group: b | error \| 9 |" in text
    assert "| 2 more | |" in text
    assert "| not finished: its 1 s were over |" in text
    assert "FAILED group, b: error | 9" in capsys.readouterr().out


def test_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: torch._C._cuda_is_not_there())
    monkeypatch.setattr(torch._C, "_cuda_is_not_there", _refuse, raising=False)
    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert "the device is 'cuda', but torch finds no GPU here; --device cpu runs the parts" in said


def _refuse():
    raise AssertionError("Torch not compiled with CUDA enabled")


def test_an_unknown_part(capsys):
    with pytest.raises(SystemExit):
        command.main(["--parts", "kernels,all"])
    assert "no part all; there are kernels, goldens" in capsys.readouterr().err


def test_parts_fit_into_eight_minutes():
    assert sum(part.seconds for part in parts.PARTS) <= 480


def test_the_page_is_that_of_the_results():
    """It says that the command was never run, or has the tables of docs/gpu.json."""
    text = page.PAGE.read_text(encoding="utf-8")
    shown = text.split(page.BEGIN + "\n")[1].split("\n" + page.END)[0]
    if page.RESULTS.is_file():
        assert shown == page.markdown(json.loads(page.RESULTS.read_text(encoding="utf-8")))
    else:
        assert shown.replace("\n", " ") == page.NEVER
