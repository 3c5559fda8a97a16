"""Log lines in glog's format."""

import re

import pytest

from caffe_port.solver import log


@pytest.fixture(autouse=True)
def _no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_level", [])
    monkeypatch.delenv("GLOG_minloglevel", raising=False)


def test_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.log("Iteration 0, loss = 1")
    log.log("careful", severity=1, place="net.cpp:1")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ solver\.cpp:1\] Iteration 0, loss = 1", first
    )
    assert second.startswith("W")
    assert second.endswith("net.cpp:1] careful")


def test_levels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "1")
    log.log("unseen")
    log.log("warned", severity=1)
    log.set_min_level(0)
    log.log("seen")
    assert [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "warned",
        "seen",
    ]
