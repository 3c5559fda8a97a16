"""What Caffe's programs share: errors, interruptions and warnings become lines of the log."""

from __future__ import annotations

import warnings

import pytest

from caffe_port.cli.caffe_tools._program import run
from caffe_port.errors import DataError
from caffe_port.solver import log

STDERR = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_level", [])


def raising(error: BaseException):
    def body(flags: object, others: list[str]) -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "letter"),
    [(DataError("broken list"), 1, "F"), (OSError(28, "No space left on device"), 1, "F"),
     (KeyboardInterrupt(), 130, "E")],
)  # fmt: skip
def test_errors(error: BaseException, status: int, letter: str, capsys: STDERR) -> None:
    assert run("tool", raising(error), {}, "tool X", []) == status
    line = capsys.readouterr().err
    assert line.startswith(letter)
    assert "tool.cpp:1] " in line


def test_an_error_of_the_system_says_what_to_do(capsys: STDERR) -> None:
    error = OSError(28, "No space left on device", "x.caffemodel")
    assert run("tool", raising(error), {}, "tool X", []) == 1
    line = capsys.readouterr().err
    assert "] x.caffemodel: No space left on device; make room there and run it again" in line


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run("tool", raising(ZeroDivisionError()), {}, "tool X", [])


def test_warnings_become_lines(capsys: STDERR) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run("tool", lambda flags, others: warnings.warn("odd field", stacklevel=1), {}, "tool", [])
    line = capsys.readouterr().err
    assert line.startswith("W")
    assert line.endswith("] odd field\n")


def test_minloglevel(capsys: STDERR) -> None:
    def body(flags: object, others: list[str]) -> None:
        log.log("hidden")
        log.log("seen", severity=2)

    assert run("tool", body, {}, "tool X", ["-minloglevel=1"]) == 0
    assert [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()] == ["seen"]
