"""``caffe-port finetune`` and ``caffe-port reproduce`` from the outside."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.finetuning.experiment import run_all
from tests.finetuning.making import make_shifted
from tests.goldens_dir import SHAPES

RUN = SHAPES / "caffe_run"
INIT = RUN / "model" / "train_iter_1200.caffemodel"


def call(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"shape_train_{i:04}\n" for i in range(9)))
    (tmp_path / "val.txt").write_text("shape_val_0000\nshape_val_0001\n")
    return [
        "finetune", RUN, "--data", SHAPES, "--init", INIT, "--train-list", tmp_path / "train.txt",
        "--val-list", tmp_path / "val.txt", "--variant", "poly_softmax", "--variant",
        "poly_pull_push_correlation", "--steps", "2", "--threads", "1", "-o", tmp_path / "out",
    ]  # fmt: skip


def test_two_recipes_under_two_seeds(tmp_path, arguments):
    status, said = call(*arguments, "--seeds", "2")
    assert status == 0, said
    assert "poly_pull_push_correlation" in said
    assert "nothing here can be compared with figures of VOC 2012" in " ".join(said.split())
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert values["names"][5] == "ring"
    assert {name: sorted(by) for name, by in values["scores"].items()} == {
        "poly_softmax": ["1", "2"], "poly_pull_push_correlation": ["1", "2"]
    }  # fmt: skip
    for by_seed in [{"0": values["start"]}, *values["scores"].values()]:
        for score in by_seed.values():
            assert 0.5 < score["before"] < score["after"] <= 1
    markdown = (tmp_path / "out" / "tables.md").read_text()
    assert markdown.count("| poly_pull_push_correlation | 2 |") == 1
    # a second call has nothing left to do, and the report can be made elsewhere
    again, _ = call(*arguments, "--seeds", "2")
    assert again == 0
    status, _ = call(
        "finetune", "--report", tmp_path / "out" / "results.json", "-o", tmp_path / "b"
    )
    assert status == 0
    assert (tmp_path / "b" / "tables.md").read_text() == markdown


def test_a_data_set_of_a_file(tmp_path, arguments):
    made = make_shifted(tmp_path)
    data = ["--dataset", tmp_path / "shifted.json", "--data", made.root]
    lists = {"--train-list": "train", "--val-list": "val", "--data": None}
    plain = [str(a) for a in arguments]
    for name, value in lists.items():
        at = plain.index(name)
        plain[at : at + 2] = [] if value is None else [name, value]
    status, said = call(*plain[:-2], "-o", tmp_path / "set", *data, "--seeds", "1")
    assert status == 0, said
    values = json.loads((tmp_path / "set" / "results.json").read_text())
    assert values["names"] == [f"class {i}" for i in range(6)]
    assert 0.5 < values["start"]["before"] < values["start"]["after"] <= 1
    make_shifted(tmp_path / "more", classes=8)
    data[1] = tmp_path / "more" / "shifted.json"
    status, said = call(*plain[:-2], "-o", tmp_path / "wrong", *data, "--seeds", "1")
    assert status == 2
    assert "has 6 classes, the data set shifted has 8" in said


def search_arguments(tmp_path, arguments, **description):
    """A short search."""
    description = {"settings": {"weight": [0.5, 4]}, "selection": 2, "rungs": [0.5, 1],
                   **description}  # fmt: skip
    (tmp_path / "some.json").write_text(json.dumps(description))
    plain = [str(a) for a in arguments]
    at = plain.index("poly_pull_push_correlation") - 1
    more = ["--search", tmp_path / "some.json", "--seeds", "2"]
    return [*plain[:at], *plain[at + 2 :], *more]


def test_a_search_is_made_and_its_report_again(tmp_path, arguments):
    words = search_arguments(tmp_path, arguments)
    status, said = call(*words)
    assert status == 0, said
    flat = " ".join(said.split())
    assert "2 of 2 settings were tried." in flat
    out = tmp_path / "out"
    first = {name: (out / name).read_bytes() for name in ("report.html", "search.json")}
    values = json.loads(first["search.json"])
    assert (values["steps"], values["search_seeds"], values["seeds"]) == ([1, 2], [1], [2, 3])
    assert values["images"] == {"training": 7, "selection": 2, "final": 2}
    assert values["final"]["names"][5] == "ring"
    chosen = (out / "chosen" / "feedback.prototxt").read_text()
    assert f"loss_weight: {values['settings'][values['chosen']]['weight']:g}" in chosen
    # nothing is left to do; the report may be written again, with the tables of a document
    assert call(*words)[0] == 0
    assert {name: (out / name).read_bytes() for name in first} == first
    page = tmp_path / "page.md"
    page.write_text("<!-- search out variants -->\n<!-- end -->\n")
    status, _ = call(
        "finetune", "--report", out / "search.json", "--into", page, "-o", tmp_path / "b"
    )
    assert status == 0
    assert (tmp_path / "b" / "report.html").read_bytes() == first["report.html"]
    assert "| poly_softmax | 2 |" in page.read_text()


def test_an_interrupted_search_says_what_is_kept(tmp_path, arguments, monkeypatch):
    def interrupted(work, progress, jobs):
        run_all(work[:2], progress, jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr("caffe_port.finetuning.halving.run_all", interrupted)
    status, said = call(*search_arguments(tmp_path, arguments))
    assert status == 130
    assert "1 of 2 settings were tried. The search is not finished." in " ".join(said.split())
    assert f"completed results are kept in {tmp_path / 'out'}" in " ".join(said.split())
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"selection": 9}, "the training list has 9 images, of which 9 are for the selection"),
        ({"keeps": 3}, "unknown key 'keeps'; expected tries"),
        ({"rungs": [0.2, 1]}, "give more --steps, or fewer rungs"),
    ],
)
def test_a_search_that_cannot_be_made(tmp_path, arguments, description, message):
    status, said = call(*search_arguments(tmp_path, arguments, **description))
    assert status == 2
    assert message in " ".join(said.split())


def test_a_search_needs_one_policy_and_a_recipe(arguments):
    plain = [str(a) for a in arguments]
    at = plain.index("--variant")
    status, said = call(*plain[:at], *plain[at + 4 :], "--search", "--crf", "none")
    assert status == 2
    assert "choose it by --variant, such as --variant poly_softmax" in " ".join(said.split())
    status, said = call("finetune", "--search", RUN, "--data", SHAPES, "--init", INIT)
    assert status == 2
    assert "give it before --search, or write '--search default'" in " ".join(said.split())


def test_interrupted_it_says_what_is_kept(tmp_path, arguments, monkeypatch):
    def interrupted(work, progress, jobs):
        run_all(work[:1], progress, jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr("caffe_port.finetuning.experiment.run_all", interrupted)
    status, said = call(*arguments, "--crf", "none")
    assert status == 130
    assert "6 runs are not finished" in said
    assert f"completed results are kept in {tmp_path / 'out'}" in " ".join(said.split())
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--variant", "x"], "has no recipe 'x'"),
        (["--device", "gpu"], "the device is 'gpu'; expected cpu, cuda"),
        (["--crf", "x"], "no CRF preset is called 'x'"),
        (["--val-list", "x"], "x: neither a list file nor the name of one"),
    ],
)
def test_what_cannot_be_used(arguments, more, message):
    status, said = call(*arguments, *more)
    assert status == 2
    assert message in said


def test_recipe_data_and_weights_are_needed():
    status, said = call("finetune", RUN)
    assert status == 2
    assert "RECIPE, --data and --init are needed" in said


def test_the_published_rows_are_listed(tmp_path):
    status, said = call("reproduce", "--list", "-o", tmp_path / "out")
    assert status == 0
    assert "62.25 / 67.64" in said
    assert "vgg16_20M.caffemodel" in said
    assert not (tmp_path / "out").exists()


def test_a_possible_row_is_run(tmp_path, monkeypatch):
    from caffe_port.finetuning import reproduce
    from caffe_port.finetuning.inputs import find_images

    (tmp_path / "val.txt").write_text("shape_val_0000\nshape_val_0001\n")
    few = str(tmp_path / "val.txt")
    monkeypatch.setattr(reproduce, "find_images", lambda root: find_images(root, few, few))
    status, said = call("reproduce", "shapes", "--threads", "1", "-o", tmp_path / "out")
    assert status == 0, said
    (row,) = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert row["ours"]["of"] == "2 images of shapes_voc"
    assert 50 < float(row["ours"]["before"]) < float(row["ours"]["after"]) <= 100


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nothing"], "row: no 'nothing'; there are largefov-step"),
        (["--init", "vgg16"], "expected NAME=FILE"),
        (["--weights", "aspp-l=nowhere"], "'nowhere': no such file"),
    ],
)
def test_missing_rows_and_files(more, message):
    status, said = call("reproduce", *more)
    assert status == 2
    assert message in said
