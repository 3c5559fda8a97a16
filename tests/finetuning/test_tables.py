"""Tables, images and reports of results that are easy to check by hand."""

import dataclasses
import json
from xml.etree import ElementTree

import pytest

from caffe_port.errors import FormatError, UsageError
from caffe_port.finetuning import tables
from caffe_port.finetuning.report import fill_document, remarks, terminal_tables, write_report
from caffe_port.finetuning.results import Results
from tests.finetuning.making import made_results


@pytest.fixture
def results():
    return made_results()


def rows(table):
    return {row[0]: row[1:] for row in table.rows}


def test_means_and_paired_differences(results):
    found = rows(tables.variants(results))
    assert found["start: init.caffemodel"] == ["", "50.00", "", "", "60.00", ""]
    assert found["step_softmax"][:4] == ["3", "51.00 ± 1.00", "-", "-"]
    # the seeds' noise falls out
    assert found["poly_softmax"][2:4] == ["step_softmax", "+2.00 [+2.00, +2.00]"]
    # 1.1, 1.2, 1.3: 0.1 * 4.303 / sqrt(3)
    assert found["poly_pull_cosine"][2:4] == ["poly_softmax", "+1.20 [+0.95, +1.45]"]
    assert found["poly_pull_cosine"][4] == "64.20 ± 1.10"


def test_one_choice_at_a_time(results):
    found = rows(tables.contrasts(results))
    assert found["pull instead of softmax alone"] == ["2", *["+1.20 [+0.95, +1.45]"] * 2]
    assert found["poly instead of step"] == ["2", *["+2.00 [+2.00, +2.00]"] * 2]
    assert "push with pull" not in found


def test_choices_of_a_whole_set(results):
    score = results.scores["step_softmax"]
    names = ["pull_cosine", "pull_correlation", "pull_push_cosine", "pull_push_correlation"]
    results.scores = {f"{p}_{n}": score for p in ("poly", "step") for n in ("softmax", *names)}
    found = {title: row[0] for title, row in rows(tables.contrasts(results)).items()}
    assert found == {
        "pull instead of softmax alone": "4",
        "pull + push instead of softmax alone": "4",
        "correlation instead of cosine": "4",
        "push with pull": "4",
        "poly instead of step": "5",
    }


def test_classes(results):
    before, after = (tables.classes(results, when) for when in ("before", "after"))
    assert rows(before)["poly_pull_cosine"] == ["poly_softmax", *["+1.20 [+0.95, +1.45]"] * 2]
    assert rows(after)["poly_pull_cosine"][2] == "-"


def test_pixels_lost_to_the_background(results):
    table = tables.lost(results)
    assert table.title == "Pixels of each class that are labelled ground, in %"
    assert table.headers == ["variant", "disc"]
    assert rows(table)["start: init.caffemodel"] == ["25.0"]
    assert rows(table)["poly_softmax"] == ["20.0 ± 10.0"]


def test_similarities(results):
    table = tables.similarities(results)
    assert table.headers[1:] == [
        "correlation: own class", "other classes", "cosine: own class", "other classes"
    ]  # fmt: skip
    assert rows(table)["start: init.caffemodel"] == ["0.700", "-", "0.800", "0.000"]


def test_published_figures_are_shown_with_ours_of_the_same_net_and_images_only(results):
    table = tables.published(results)
    theirs = table.rows[0]
    assert theirs == [
        "DeepLab-LargeFOV, step, batch 30, 6k", "ICLR 2015", "62.25 / 67.64",
        "51.00 ± 1.00 / 61.00 ± 1.00", "step_softmax",
        "yes: tiny-largefov, 2 images of drawn (another net, other images)",
    ]  # fmt: skip
    by_name = rows(table)
    assert by_name["ResNet-101, MSC + COCO + Aug + ASPP"][2:] == ["-", "-", "no"]
    assert by_name["PyTorch LargeFOV, regime 1 (step), no dropout"][-1] == "no"
    assert [row[4] for row in table.rows if row[0] == "no figure public"] == [
        "poly_pull_cosine", "step_pull_cosine"
    ]  # fmt: skip
    real = dataclasses.replace(results, net="deeplab_v1_largefov", net_name="deeplab_v1_largefov")
    real.data = {"folder": "VOC2012", "train": 10582, "val": 1449, "first": "2007_000033"}
    found = rows(tables.published(real))
    assert found[theirs[0]][-1] == "yes: deeplab_v1_largefov, 1449 images of VOC 2012 val"
    assert found["LargeFOV, poly, batch 10, 20k"][-1] == "no"
    without = dataclasses.replace(real, dropout=False)
    found = rows(tables.published(without))
    assert found[theirs[0]][-1] == "no"
    assert found["PyTorch LargeFOV, regime 1 (step), no dropout"][3] == "step_softmax"


def test_the_report_says_everything_and_can_be_made_again(tmp_path, results):
    page = write_report(results, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    for word in ("poly_pull_cosine", "+1.20 [+0.95, +1.45]", "ICLR 2015", "similarities cosine"):
        assert word in text
    found = tmp_path / "out" / "results.json"
    again = Results.read(found)
    assert again == results
    write_report(again, tmp_path / "again")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            other = tmp_path / "again" / path.relative_to(tmp_path / "out")
            assert other.read_bytes() == path.read_bytes()
    images = sorted((tmp_path / "out" / "pictures").iterdir())
    assert [p.name for p in images] == [
        "poly_loss.svg", "poly_total.svg", "similarities_correlation.svg",
        "similarities_cosine.svg", "step_loss.svg", "step_total.svg",
    ]  # fmt: skip
    for path in images:
        ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert "| poly_pull_cosine | 3 |" in (tmp_path / "out" / "tables.md").read_text()
    assert [table.title for table in terminal_tables(results)] == [
        "Mean IoU",
        "One choice at a time",
    ]


def test_a_documents_tables_are_filled(tmp_path, results):
    path, found = tmp_path / "d.md", tables.all_tables(results)
    path.write_text("A\n<!-- table variants -->\nold\n<!-- end -->\nB\n")
    for _ in range(2):
        fill_document(path, found)
        table = found["variants"].markdown()
        assert path.read_text() == f"A\n<!-- table variants -->\n{table}<!-- end -->\nB\n"
    for text, message in (("A", "no place for a table"), ("<!-- table x -->\n<!-- end -->", "'x'")):
        path.write_text(text)
        with pytest.raises(UsageError, match=rf"d\.md: .*{message}"):
            fill_document(path, found)
        assert path.read_text() == text


def test_remarks(results):
    del results.scores["poly_softmax"][2]
    results.scores["step_softmax"][3].before = None
    results.from_fillers = ["layer 'fc8', blob 0"]
    assert remarks(results) == [
        "1 runs are not finished; the figures are those of the others.",
        "Diverged, so without figures: step_softmax, seed 3.",
        "Not in init.caffemodel, so from fillers: layer 'fc8', blob 0.",
        "Evaluated on 2 images of drawn: nothing here can be compared with figures of VOC 2012.",
    ]


def test_nothing_is_finished(tmp_path, results):
    results.start, results.curves = None, {}
    results.scores = {name: {} for name in results.scores}
    write_report(results, tmp_path)
    assert len(rows(tables.variants(results))) == 4


@pytest.mark.parametrize(
    "change",
    [{"format": "x"}, {"scores": 3}, {"start": {"x": 1}}, {"planned": None, "more": 1}],
)
def test_files_that_are_not_results(tmp_path, results, change):
    path = tmp_path / "results.json"
    results.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError, match=r"results\.json"):
        Results.read(path)
