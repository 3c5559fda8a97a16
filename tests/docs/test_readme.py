"""The README is short, and its figures are those of the recordings and the benchmarks."""

from __future__ import annotations

import json
import re

import pytest

from tests.goldens_dir import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
NETS = ("LargeFOV 513 x 513", "FCN-AlexNet 500 x 500", "ResNet-101 MSc 513 x 513")
THREADS = {"two": "2 threads, wall seconds", "one": "1 thread, CPU seconds"}
FORWARD = {
    "matrix products": "matrix products",
    "OpenCV": "OpenCV",
    "layer by layer": "torch, layer by layer",
    "**optimized**": "optimized",
    "optimized, `winograd=True`": "optimized, Winograd",
    "optimized, bfloat16": "optimized, bfloat16",
}


def tables(subject: str) -> dict[str, dict[str, dict[str, float]]]:
    """What `python -m benchmarks SUBJECT` measured last."""
    path = ROOT / "benchmarks" / "results" / f"{subject}.json"
    return json.loads(path.read_text(encoding="utf-8"))["tables"]


def cell(text: str, row: str, column: int) -> str:
    """A cell of the table row that begins with these words."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row}"))
    return line.strip().strip("|").split("|")[column].strip("* ")


def shows(text: str, value: float) -> bool:
    """Whether a figure is that value, rounded to the digits that it has."""
    digits = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.501 * 10**-digits


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
    forward = tables("forward")["LargeFOV 513 x 513, 2 threads, wall seconds"]
    crf = tables("crf")["compared with pydensecrf, 10 iterations"]["500 x 375, 21 labels"]
    loading = tables("loading")["82 MB caffemodel; ratio to one copy"]
    return {
        "`forward`": 1 / forward["optimized"]["ratio"],
        "`crf`": crf["times, one"],
        "`loading`": loading["protobuf and numpy"]["ratio"]
        / loading["caffe_port, aligned arrays"]["ratio"],
    }


@pytest.mark.parametrize("row", ["`forward`", "`crf`", "`loading`"])
def test_the_figures_of_speed(row):
    assert shows(cell(README, row, 2), speed()[row])


@pytest.mark.parametrize("threads", THREADS)
def test_the_table_of_forward_passes(threads):
    """Seconds, and times faster than OpenCV and slower than the matrix products."""
    text = PERFORMANCE[PERFORMANCE.index(f"| {threads} thread") :].partition("\n\n")[0]
    for column, net in enumerate(NETS, 1):
        found = tables("forward")[f"{net}, {THREADS[threads]}"]
        for row, name in FORWARD.items():
            rows = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
            if rows or name != "optimized, bfloat16":
                # the second "layer by layer" is a row of memory
                assert shows(cell(rows[0], row, column), found[name]["seconds"]), (net, name)
        both = [found[name] for name in ("optimized", "optimized, Winograd")]
        for row, values in (
            ("times faster than OpenCV", [1 / each["ratio"] for each in both]),
            ("times the matrix products", [each["to matrix products"] for each in both]),
        ):
            shown = cell(text, row, column).split(", ")
            assert all(map(shows, shown, values)), (net, row, shown, values)


def test_the_figures_of_the_comparison():
    """docs/compared.md repeats figures of the benchmarks."""
    text = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
    crf = tables("crf")["compared with pydensecrf, 10 iterations"]["500 x 375, 21 labels"]
    loading = tables("loading")["82 MB caffemodel; ratio to one copy"]
    forward, reading = re.findall(r"([\d.]+) \(", cell(text, "OpenCV 4.14", 4))
    opencv = loading["OpenCV readNetFromCaffe"]["ratio"]
    assert shows(forward, speed()["`forward`"])
    assert shows(reading, opencv / loading["caffe_port, aligned arrays"]["ratio"])
    one, two = re.findall(r"\d+\.\d+", cell(text, "pydensecrf2", 4))
    assert shows(one, crf["times, one"])
    assert shows(two, crf["times, two"])
    ports = tables("ports")["kazuto1011"]["three scales: align_corners=False alone"]
    (share,) = re.findall(r"([\d.]+) %", cell(text, "kazuto1011", 3))
    assert shows(share, ports["labels changed, %"])
