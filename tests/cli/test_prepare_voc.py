"""``caffe-port prepare_voc``: options, exit statuses, what is shown and written."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.data.voc_prepare import layout
from tests.data.voc_making import make
from tests.goldens_dir import SHAPES


@pytest.fixture
def both(tmp_path):
    """The two downloads."""
    return make(tmp_path)


def run(*args):
    return CliRunner().invoke(main, ["prepare-voc", *map(str, args)])


def test_a_whole_preparation(both, tmp_path):
    result = run(*both, "-o", tmp_path / "out", "-j", 2)
    assert result.exit_code == 0, result.output
    for words in ("10,582", "trainval_aug", "5 of VOC, 2 of SBD; 7 written, 0 kept",
                  "note: list train: 3 images, 1,464 published", "prepare_voc: 7 of 7 images",
                  "report.html"):  # fmt: skip
        assert words in result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["lists"]["train_aug"] == {"images": 5, "published": 10582}
    assert report["masks"] == {"SBD": 2, "VOC": 5}
    assert report["problems"] == []
    assert report["classes"][0]["name"] == "background"
    assert {"name": "tvmonitor", "images": 2, "pixels_percent": 4.960317} in report["classes"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == 7
    assert "aeroplane" in page
    assert "7 kept" in run(*both, "-o", tmp_path / "out").output
    assert "7 written, 0 kept" in run(*both, "-o", tmp_path / "out", "--fresh").output


def test_broken_files_are_named_and_status_1(both, tmp_path):
    for path in (both[1] / "cls").glob("2008*.mat"):
        path.write_bytes(b"broken")
    result = run(*both, "-o", tmp_path / "out")
    assert result.exit_code == 1
    for id in ("2008_000004", "2008_000007"):
        assert f"{both[1]}/cls/{id}.mat: byte 0: not the header of a MAT file" in result.stdout
    assert "2 files are missing or damaged" in result.stdout
    assert "2008_000004.mat" in (tmp_path / "out" / "report.html").read_text()
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["problems"]) == 2


def test_many_broken_files_are_all_in_the_report(both, tmp_path, monkeypatch):
    monkeypatch.setattr("caffe_port.cli.prepare_voc._NAMED", 3)
    for path in (both[0] / "JPEGImages").iterdir():
        path.write_bytes(b"")
    result = run(*both, "-o", tmp_path / "out")
    assert "... and 4 more" in result.stdout
    assert (tmp_path / "out" / "report.html").read_text().count(".jpg: not an image") == 7


def test_strict_makes_counts_a_fault(both, tmp_path, monkeypatch):
    assert run(both[0], "-o", tmp_path / "out", "--strict").exit_code == 1
    monkeypatch.setattr(layout, "PUBLISHED", {"train": 3, "trainval": 5, "val": 2})
    assert run(both[0], "-o", tmp_path / "out", "--strict").exit_code == 0


def test_the_bundled_example_passes_the_checks():
    result = run("--check-only", SHAPES, "--classes", 6)
    assert result.exit_code == 0, result.output
    assert "good masks: 460 of VOC" in result.output
    result = run("--check-only", SHAPES, "--list", SHAPES / "val.txt", "--classes", 5)
    assert result.exit_code == 1
    assert "label 5 at row" in result.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([SHAPES], "give -o OUT, or --check-only"),
        ([SHAPES, "-o", "out", "--check-only"], "--check-only takes one folder"),
        ([SHAPES, SHAPES, "--check-only"], "--check-only takes one folder"),
        ([SHAPES, "-o", "out", "--list", SHAPES / "val.txt"], "--list needs --check-only"),
        (["gone", "-o", "out"], "does not exist"),
        ([SHAPES, SHAPES, "-o", "out"], "not SBD's folder"),
        ([SHAPES.parent, "-o", "out"], "not VOC2012's folder"),
    ],
)
def test_refused_arguments(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()
