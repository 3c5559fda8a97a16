"""Reports say what the result says, in the terminal, as JSON and as a page."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from caffe_port.parity import report
from caffe_port.parity.recording import read_recording
from caffe_port.parity.report import error_plot, page_of
from caffe_port.parity.verify import verify
from tests.parity.fake import FakeNet, record, recorded_arrays, write_folder

ROW = {
    "kind": str, "name": str, "layers": list, "shape": list, "peak": (float, type(None)),
    "e_port": (float, type(None)), "e_port_relative": (float, type(None)),
    "e_caffe": (float, type(None)), "e_caffe_relative": (float, type(None)),
    "ratio": (float, type(None)), "distance": (float, type(None)),
    "port_share_of_bound": (float, type(None)), "caffe_share_of_bound": (float, type(None)),
    "ulps": (float, type(None)), "verdict": str, "reason": str, "where": (list, type(None)),
    "differing": (int, type(None)), "ties": int,
}  # fmt: skip
TOP = {
    "format": str, "version": int, "net": str, "parameters": str, "recording": str,
    "oracle": str, "phase": str, "isolated": bool, "passed": bool,
    "first_bad": (dict, type(None)), "counts": dict, "worst": dict, "versions": dict, "rows": list,
}  # fmt: skip


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made-of-<b>")
    return read_recording(record(folder, versions={"caffe": "1.0 <i>"}))


@pytest.fixture(scope="module")
def good(recording):
    return verify(FakeNet(), recording)


@pytest.fixture(scope="module")
def bad(recording):
    return verify(FakeNet(change={"conv2": lambda x: x * 1.001}), recording)


def terminal(result):
    stream = io.StringIO()
    Console(file=stream, width=250).print(report.terminal_table(result))
    return stream.getvalue()


@pytest.mark.parametrize("name", ["good", "bad"])
def test_json_has_exactly_these_fields(request, tmp_path, name):
    report.write_json(request.getfixturevalue(name), tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    rows = [*content["rows"], *([content["first_bad"]] if content["first_bad"] else [])]
    for fields, schema in [(content, TOP), *((row, ROW) for row in rows)]:
        assert set(fields) == set(schema)
        assert all(isinstance(fields[key], schema[key]) for key in schema)
    assert sum(content["counts"].values()) == len(content["rows"])
    assert content["versions"]["recording"] == {"caffe": "1.0 <i>"}
    assert content["versions"]["port"]["numpy"] == np.__version__


def test_json_names_the_first_bad_row(bad, good):
    assert report.as_dict(good)["first_bad"] is None
    first = report.as_dict(bad)["first_bad"]
    assert (first["name"], first["layers"], first["verdict"]) == ("score", ["conv2"], "fail")
    assert report.as_dict(bad)["passed"] is False


def test_json_has_no_infinities(tmp_path):
    arrays = recorded_arrays(FakeNet(permuted=True))
    arrays["diff/label_map"][0, 0, 0, 0] = 1  # where the exact blob is all 0
    result = verify(FakeNet(), read_recording(write_folder(tmp_path, arrays)))
    row = next(r for r in report.as_dict(result)["rows"] if r["kind"] == "diff" and r["peak"] == 0
               and r["verdict"] == "fail")  # fmt: skip
    assert row["e_caffe"] == 1
    assert row["e_caffe_relative"] is None
    assert "Infinity" not in json.dumps(report.as_dict(result))


def test_worst_is_the_largest_relative_error(good):
    found = report.worst(good, "e_port")
    values = [r.comparison.port_relative for r in good.rows if r.comparison.e_port is not None]
    assert found["relative"] == max(values)
    assert found["relative"] > 0


def test_headline(good, bad):
    passing = report.headline(good)
    assert f"all {len(good.rows)} compared arrays pass" in passing
    assert "4 of them parameters" in passing
    assert "First bad layer: 'conv2', by data 'score'" in report.headline(bad)


def test_terminal_table(good, bad):
    assert "fail" not in terminal(good)
    lines = [line for line in terminal(bad).splitlines() if "│ conv2 " in line]
    assert "score" in lines[0]
    assert "fail" in lines[0]
    assert "139" in lines[0]


def test_equal_parameters_take_no_lines_and_wrong_ones_do(good, recording):
    assert not any(row.kind == "param" for row in report.shown_rows(good))
    net = FakeNet()
    net.weights["conv1_0"].data[0] = 0
    shown = [row.name for row in report.shown_rows(verify(net, recording)) if row.kind == "param"]
    assert shown == ["conv1/0"]


def test_footnotes_count_what_was_left_out(recording):
    notes = report.footnotes(verify(FakeNet(), recording, isolate=True))
    assert re.match(r"\d+ arrays were not recorded", notes[0])


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], "", []

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", ["good", "bad"])
def test_page(request, tmp_path, name):
    result = request.getfixturevalue(name)
    html, data = report.write_report(result, tmp_path / "new")
    assert (html.name, data.name) == ("report.html", "report.json")
    checker = Checker()
    checker.feed(html.read_text(encoding="utf-8"))
    assert checker.open == []
    assert checker.links == []  # self-contained
    assert "1.0 <i>" in checker.text
    assert report.headline(result) in checker.text
    for row in report.shown_rows(result):
        assert row.name in checker.text
    assert checker.text.count("fail") >= len([r for r in result.rows if r is result.first_bad])


def test_plot_has_two_dots_per_row_inside_its_frame(good):
    svg = error_plot(good)
    rows = [row for row in good.rows if row.comparison.e_port is not None]
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="3"', svg)]
    assert len(dots) == 2 * len(rows)
    assert all(0 < x < 960 and 0 < y < 280 for x, y in dots)
    assert len({y for _, y in dots}) > 3


def test_pages_of_a_net_without_measurable_rows_have_an_empty_plot(tmp_path):
    arrays = {k: v for k, v in recorded_arrays(FakeNet()).items()
              if k.startswith("input/") or k == "data/label_map"}  # fmt: skip
    folder = write_folder(tmp_path, arrays, backward=False, blobs_kept="chosen")
    result = verify(FakeNet(), read_recording(folder))
    assert 'r="3"' not in error_plot(result)
    assert "label_map" in page_of(result)
