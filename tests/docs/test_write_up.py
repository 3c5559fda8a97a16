"""docs/experiment.md says what its figures say."""

import re

import pytest

from caffe_port.finetuning.halving import SearchResults
from caffe_port.finetuning.report import filled, write_report
from caffe_port.finetuning.results import Results
from caffe_port.finetuning.search_report import filled_search, search_chart
from caffe_port.finetuning.tables import all_tables
from tests.goldens_dir import ROOT

FOLDER = ROOT / "docs" / "experiment"


@pytest.fixture(scope="module")
def results():
    return Results.read(FOLDER / "results.json")


def test_the_tables_are_those_of_the_figures(results):
    text = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    assert filled(text, all_tables(results)) == text


def test_the_charts_are_those_of_the_figures(tmp_path, results):
    write_report(results, tmp_path)
    text = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    shown = sorted(FOLDER.glob("*.svg"))
    assert len(shown) == 6
    for path in shown:
        assert f"experiment/{path.name}" in text
        assert path.read_bytes() == (tmp_path / "pictures" / path.name).read_bytes()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000


def test_it_is_the_experiment_that_the_page_describes(results):
    assert len(results.scores) == 10
    assert all(sorted(by_seed) == [1, 2, 3] for by_seed in results.scores.values())
    assert (results.steps, results.init) == (600, "train_iter_1200.caffemodel")


SEARCHES = sorted((FOLDER / "search").glob("*.json"))


def test_the_second_part_has_its_searches():
    stems = [f"{weights}{images}" for weights in ("strong", "weak") for images in (100, 340, 50)]
    assert [path.stem for path in SEARCHES if not path.stem.startswith("again")] == stems
    assert sum(path.stat().st_size for path in (FOLDER / "search").iterdir()) < 200_000


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_the_tables_and_the_chart_of_a_search_are_those_of_its_figures(path):
    found = SearchResults.read(path)
    assert found.name == path.stem
    text = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    assert filled_search(text, found) == text
    assert f"experiment/search/{path.stem}.svg" in text
    assert path.with_suffix(".svg").read_text(encoding="utf-8") == search_chart(found)


def test_the_page_begins_with_the_result(tmp_path, results):
    write_report(results, tmp_path)
    headings = re.findall("<h2>(.*?)</h2>", (tmp_path / "report.html").read_text())
    assert headings[:2] == [all_tables(results)["variants"].title, "What this is"]
    assert headings[-1] == "Versions"
