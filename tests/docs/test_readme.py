"""The README is short, and its figures are those of the recordings and the benchmarks."""

from __future__ import annotations

import re

import pytest

from tests.docs.figures import cell, shows, tables
from tests.goldens_dir import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) < 150
    assert README.count("![") == 1
    assert README.index("![") < 500


def test_the_commands_of_a_fresh_machine():
    demo, test = re.findall(r"^make (demo|test) +#", README, re.M)
    assert (demo, test) == ("demo", "test")


@pytest.mark.parametrize(
    ("row", "folder"),
    [
        ("layers, forward and backward", "layers"),
        ("layers of published width", "wide"),
        ("the dense CRF", "crf"),
        ("Seg-Unravel's points", "unravel"),
    ],
)
def test_the_numbers_of_recordings(row, folder):
    cases = list((ROOT / "tests" / "goldens" / folder).glob("*/case.json"))
    assert cell(README, row, 1) == str(len(cases))


def speed() -> dict[str, float]:
    """Rows of the README's table of speed, and the measured ratios."""
    forward = tables("forward")["LargeFOV 513 x 513, 1 thread"]
    crf = tables("crf")["compared with pydensecrf, 10 iterations"]["500 x 375, 21 labels"]
    loading = tables("loading")["82 MB caffemodel; ratio to one copy"]
    return {
        "`forward`": forward["layer by layer"]["CPU s"] / forward["optimized"]["CPU s"],
        "`crf`": crf["times, one"],
        "`loading`": loading["protobuf and numpy"]["ratio"]
        / loading["caffe_port, aligned arrays"]["ratio"],
    }


@pytest.mark.parametrize("row", ["`forward`", "`crf`", "`loading`"])
def test_the_figures_of_speed(row):
    assert shows(cell(README, row, 2), speed()[row])
