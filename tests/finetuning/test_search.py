"""A search on a tiny net: what it tries, what it keeps, and the same report after any break."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest

from caffe_port.crf import parse_parameters
from caffe_port.errors import FormatError, UsageError
from caffe_port.finetuning import running
from caffe_port.finetuning.curve import Curve, Snapshots
from caffe_port.finetuning.halving import Halving, SearchResults
from caffe_port.finetuning.inputs import Options, RenderedRecipe
from caffe_port.finetuning.scoring import Control, Trial
from caffe_port.finetuning.search import GRID, FeedbackSetting, Search, SettingLayers, split
from caffe_port.finetuning.search_report import (
    conclusion,
    differences,
    fill_search,
    is_better,
    search_tables,
    write_search,
)
from caffe_port.finetuning.variants import find_variants
from caffe_port.proto import parse_net
from caffe_port.weights import read_weights
from tests.finetuning.making import made_results, make_images, make_setting

FEW = Search(
    settings={**{name: values[:1] for name, values in GRID.items()}, "weight": (0.5, 2.0, 4.0)},
    rungs=(0.25, 0.5, 1.0), keep=2, selection=2, train_images=3,
)  # fmt: skip


class Crash(BaseException):
    """What nothing catches, as a process that is killed."""


class Noting:
    """A progress that records the runs that finished and may end the process."""

    def __init__(self, crash_at=None):
        self.calls, self.finished, self._crash_at = 0, [], crash_at

    def update(self, run, what, part):
        self.calls += 1
        if self.calls == self._crash_at:
            raise Crash

    def done(self, run):
        self.finished.append(run)


@pytest.fixture
def parts(tmp_path):
    setting, variants = make_setting(tmp_path)
    return dataclasses.replace(setting, crf=parse_parameters("iterations=1")), variants[0]


def halving(parts, out, search=FEW, seeds=2):
    return Halving(*parts, search, seeds, out)


def report_of(search, out):
    """All bytes of the report."""
    write_search(search.results(), out)
    files = sorted(path for path in out.iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in [*files, out / "pictures" / "search.svg"]}


# What is tried


def test_the_default_grid_is_the_documented_one():
    tried = Search().first_settings(features=True)
    assert len(tried) == 18
    assert tried[0] == FeedbackSetting()
    single = tried[1:16]
    assert {one.weight for one in single[:4]} == {0.02, 0.1, 0.2, 0.5}
    assert [one.margin for one in single if one.margin] == [0.3, 0.5]
    assert all(one.terms == "pull_push" for one in single if one.margin)
    # each of the single changes differs from the centre in one option (a margin in two)
    centre = dataclasses.asdict(FeedbackSetting())
    for one in single:
        changed = [name for name, value in dataclasses.asdict(one).items() if value != centre[name]]
        assert len(changed) == (2 if one.margin else 1)
    assert len({one.name for one in tried}) == 18


def test_combinations_without_effect_are_tried_once():
    grid = {"terms": ("pull", "push"), "margin": (0.0, 0.3), "template": ("best",), "k": (5, 9)}
    whole = {**{name: values[:1] for name, values in GRID.items()}, **grid}
    found = Search(settings=whole, tries=99).first_settings(features=True)
    assert {(one.terms, one.margin, one.k) for one in found} == {
        ("pull", 0.0, 5), ("push", 0.0, 5), ("push", 0.3, 5)
    }  # fmt: skip
    assert len(found) == 3


def test_the_drawn_order_depends_on_the_seed_only():
    def drawn(seed):
        return Search(random_seed=seed, tries=40).first_settings(features=True)

    assert drawn(1) == drawn(1)
    assert drawn(1)[:16] == drawn(2)[:16]
    assert drawn(1)[16:] != drawn(2)[16:]


def test_without_features_they_are_left_out():
    found = Search(tries=500).first_settings(features=False)
    assert {one.at for one in found} == {"scores"}


def test_the_split_is_drawn_and_nothing_is_in_two_parts(tmp_path):
    images = make_images(tmp_path, train=20)
    select, final = split(images, Search(selection=0.25))
    assert (len(select.train), len(select.val), len(final.val)) == (15, 5, 2)
    assert final.train == select.train
    assert final.val == images.val
    assert {x.id for x in select.train} | {x.id for x in select.val} == {x.id for x in images.train}
    few, _ = split(images, Search(selection=5, train_images=4))
    assert few.val == select.val
    assert len(few.train) == 4
    assert set(few.train) < set(select.train)
    other, _ = split(images, Search(selection=5, random_seed=2))
    assert other.val != select.val
    with pytest.raises(UsageError, match=r"20 images, of which 5 .* 16 to train on"):
        split(images, Search(selection=5, train_images=16))


def test_the_layers_of_a_setting(tmp_path, parts):
    setting, variant = parts
    layers = SettingLayers(variant, setting.images, setting.options, tmp_path / "recipe")
    assert layers.features == ["conv"]
    assert layers.baseline.name == "step_softmax"
    one = FeedbackSetting(
        weight=0.25, ramp_up=0.5, background=True, terms="push", margin=0.5, template="top-k", k=3,
        detach=False, at="features", similarity="correlation",
    )  # fmt: skip
    (layer,) = parse_net(layers.text(one)).message.layer
    assert list(layer.bottom) == ["conv", "label_shrink", "scores"]
    assert list(layer.loss_weight) == [0.25]
    o = layer.feedback_loss_param
    assert (o.similarity, o.template, o.k) == (o.CORRELATION, o.TOP_K, 3)
    assert (o.detach, o.include_background, o.margin, o.ramp_up) == (False, True, 0.5, 4)
    assert (o.pull_weight, o.push_weight, list(o.ignore_label)) == (0, 1, [255])
    rendered = RenderedRecipe(layers.variant(one), setting.images, setting.options)
    assert [x.type for x in rendered.train.layer].count("FeedbackLoss") == 1


@pytest.mark.parametrize(
    ("recipe", "bottoms", "features"),
    [
        ("deeplab_v1_largefov/step_softmax", ["fc8_voc12"], ["fc7"]),
        ("deeplab_v2_vgg16_largefov/poly_pull_cosine", ["fc8_voc12"], ["fc7"]),
        (
            "deeplab_v2_resnet101_msc_aspp/poly_softmax",
            ["fc_fusion", "fc1_voc12", "fc1_voc12_res075_interp", "fc1_voc12_res05"],
            [],  # sums of several convolutions
        ),
    ],
)
def test_published_nets(tmp_path, recipe, bottoms, features):
    variant = find_variants(recipe)[0]
    layers = SettingLayers(variant, make_images(tmp_path), Options(), tmp_path / "recipe")
    assert layers.features == features
    found = parse_net(layers.text(FeedbackSetting())).message.layer
    assert [layer.bottom[0] for layer in found] == bottoms
    assert len({layer.name for layer in found}) == len(bottoms)
    assert all(list(layer.feedback_loss_param.ignore_label) == [255] for layer in found)


def test_a_recipes_own_feedback_is_not_in_the_baseline(tmp_path):
    setting, variants = make_setting(tmp_path)
    layers = SettingLayers(variants[1], setting.images, setting.options, tmp_path / "recipe")
    assert "FeedbackLoss" in variants[1].recipe.train
    assert "FeedbackLoss" not in layers.baseline.recipe.train


# The runs


@pytest.mark.parametrize("crash_at", [None, 3])
def test_a_paused_run_continues_as_if_it_had_not_paused(tmp_path, crash_at):
    setting, variants = make_setting(tmp_path)
    control = Control(lambda: False, lambda what, part: None)

    def outcome(folder):
        trial = Trial(setting, variants[1], 3, folder, 8)
        found = running.run(trial, control)
        snapshots = Snapshots(folder / "snapshots")
        layers = read_weights(snapshots.weights(8)).layers
        weights = [blob.data.tobytes() for layer in layers for _, blob in layer.numbered()]
        return found["before"], found["final_loss"], Curve.read(snapshots.curve(8)), weights

    whole = outcome(tmp_path / "whole")
    for updates in (2, 4):
        trial = Trial(setting, variants[1], 3, tmp_path / "paused", updates)
        if crash_at and updates == 4:
            crashing = functools.partial(Noting(crash_at).update, 0)
            with pytest.raises(Crash):
                running.run(trial, Control(lambda: False, crashing))
        found = running.run(trial, control)
        assert found["steps"] == updates
        assert len(Curve.read(Snapshots(trial.folder / "snapshots").curve(updates)).loss) == updates
    assert outcome(tmp_path / "paused") == whole
    assert (tmp_path / "paused" / "result_2.json").exists()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A whole search, its parts, and its report."""
    root = tmp_path_factory.mktemp("searched")
    setting, variants = make_setting(root)
    parts = dataclasses.replace(setting, crf=parse_parameters("iterations=1")), variants[0]
    search, progress = halving(parts, root / "out"), Noting()
    search.run(progress)
    return search, parts, progress, report_of(search, root / "out")


def test_a_search_halves_and_compares_on_seeds(searched):
    search, _, progress, _ = searched
    out = search._out
    found = search.results()
    # 3 settings and the baseline, 2, 1, then start and two variants of two seeds
    assert search.runs == 4 + 3 + 2 + 5 == len(progress.finished)
    assert sorted(progress.finished) == list(range(search.runs))
    assert found.steps == [2, 4, 8]
    assert (found.tried, len(found.settings)) == (3, 3)
    assert [len(found.kept[steps]) for steps in found.steps] == [2, 1, 1]
    assert set(found.baseline) == {2, 4, 8}
    by_rung = [{n for n in found.scores if s in found.scores[n]} for s in found.steps]
    assert [len(names) for names in by_rung] == [3, 2, 1]
    best = sorted(by_rung[0], key=lambda name: -found.scores[name][2])
    assert found.kept[2] == best[:2]
    assert found.chosen == found.kept[4][0] == found.kept[8][0]
    assert found.images == {"training": 3, "selection": 2, "final": 2}
    assert found.search_seeds == [1]
    assert found.final is not None
    assert {name: sorted(by) for name, by in found.final.scores.items()} == {
        "step_softmax": [2, 3], f"step_{found.chosen}": [2, 3]
    }  # fmt: skip
    assert all(d.seeds == 2 for d in differences(found.final).values())
    assert search.write_chosen(found).read_text().count("FeedbackLoss") == 1
    # nothing of the selection is trained on, nor anything of the final images used before
    lists = {path.read_text() for path in (out / "search").glob("*/*/test.txt")}
    assert len(lists) == 1
    assert not set(lists.pop().splitlines()) & set(
        next((out / "final").glob("runs/*/seed_2/train.txt")).read_text().splitlines()
    )


def test_the_report_says_what_was_tried(tmp_path, searched):
    search, _, _, report = searched
    found = search.results()
    page = report["report.html"].decode()
    assert conclusion(found) in page.replace("&#x27;", "'")
    assert "3 of 3 settings were tried" in page
    assert {"settings", "variants", "classes_before", "classes_after"} <= set(search_tables(found))
    # the report can be written again from its JSON
    write_search(SearchResults.read(search._out / "search.json"), tmp_path)
    for name, content in report.items():
        again = tmp_path / ("pictures/search.svg" if name == "search.svg" else name)
        assert again.read_bytes() == content


@pytest.mark.parametrize("crash_at", [2, 12, 30, 60])
def test_a_killed_search_gives_the_same_bytes(tmp_path, searched, crash_at):
    _, parts, _, expected = searched
    search = halving(parts, tmp_path / "out")
    with pytest.raises(Crash):
        search.run(Noting(crash_at))
    partial = search.results()
    assert partial.tried <= 3
    assert conclusion(partial)
    write_search(partial, tmp_path / "out")
    search.run(Noting())
    assert report_of(search, tmp_path / "out") == expected


def test_more_settings_may_be_tried_later(tmp_path, parts):
    few = dataclasses.replace(FEW, tries=1)
    halving(parts, tmp_path / "out", few, seeds=1).run(Noting())
    again = Noting()
    halving(parts, tmp_path / "out", FEW, seeds=1).run(again)
    fresh = halving(parts, tmp_path / "fresh" / "out", FEW, seeds=1)
    fresh.run(Noting())
    assert halving(parts, tmp_path / "out", FEW, seeds=1).results() == fresh.results()


# What is said


def _found(gains, after=None):
    """Results of a finished search with these differences by seed, in points."""
    final = made_results()
    both = ["poly_softmax", "poly_pull_cosine"]
    final.scores = {name: final.scores[name] for name in both}
    for seed, gain in zip((1, 2, 3), gains, strict=True):
        for name, more in zip(both, (0.0, gain / 100), strict=True):
            score = final.scores[name][seed]
            score.before = 0.5 + more
            score.after = None if after is None else 0.6 + (more and after / 100)
    return SearchResults(
        name="s", settings={"a": {}, "b": {}}, steps=[4, 8],
        images={"training": 3, "selection": 2, "final": 9}, search_seeds=[1], seeds=[1, 2, 3],
        search={}, scores={"a": {4: 51.0, 8: 52.0}, "b": {4: None}}, baseline={4: 50.5, 8: 52.25},
        kept={4: ["a"], 8: ["a"]}, chosen="a", final=final,
    )  # fmt: skip


def test_an_interval_above_0_is_better():
    found = _found((1.0, 1.1, 1.2), after=0.5)
    assert is_better(found.final)
    assert "is better than the softmax loss alone: +1.10 [+0.85, +1.35] points" in conclusion(found)
    assert "+0.50 [+0.50, +0.50] after it (3 seeds, 9 validation images)" in conclusion(found)


@pytest.mark.parametrize(
    ("gains", "after", "words"),
    [
        ((1.0, -0.5, 0.7), 0.5, "more than 2.37 points by it is outside of the interval"),
        ((1.0, 1.1, 1.2), -0.5, "more than 1.35 points by it is outside of the interval"),
        ((-1.0, -1.1, -1.2), -0.5, "before the CRF, it is worse."),
    ],
)
def test_anything_else_is_not(gains, after, words):
    found = _found(gains, after)
    assert not is_better(found.final)
    assert "2 of 2 settings were tried. None was found to be better" in conclusion(found)
    assert words in conclusion(found)


def test_the_table_of_settings():
    table = search_tables(_found((1, 1, 1)))["settings"]
    assert table.rows == [
        ["softmax alone", "50.50", "52.25", ""],
        ["a", "+0.50", "-0.25", "chosen"],
        ["b", "diverged", "", ""],
    ]


def test_places_of_a_document_are_filled(tmp_path):
    page, found = tmp_path / "page.md", _found((1, 1, 1))
    text = "x\n<!-- search s settings -->\n<!-- end -->\n<!-- search t none -->\nkept <!-- end -->"
    page.write_text(text)
    fill_search(page, found)
    assert "| a | +0.50 | -0.25 | chosen |" in page.read_text()
    assert page.read_text().endswith("<!-- search t none -->\nkept <!-- end -->")
    page.write_text("<!-- search s wrong -->\n<!-- end -->")
    with pytest.raises(UsageError, match="no table 'wrong'; there are settings, variants"):
        fill_search(page, found)
    page.write_text("nothing")
    with pytest.raises(UsageError, match="no place for a table"):
        fill_search(page, found)


# What cannot be used


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"setings": {}}, "unknown key 'setings'; expected tries"),
        ({"settings": {"wight": [1]}}, "settings: unknown key 'wight'; expected weight"),
        ({"settings": {"weight": [0]}}, r"'weight' is \[0\]; expected a list of numbers"),
        ({"settings": {"weight": 0.1}}, "'weight' is 0.1; expected a list of numbers"),
        ({"settings": {"weight": []}}, r"'weight' is \[\]; expected a list"),
        ({"settings": {"template": ["worst"]}}, "expected a list of best, mean, top-k"),
        ({"settings": {"detach": [1]}}, "expected a list of true or false"),
        ({"settings": []}, "expected an object"),
        ({"rungs": [0.5]}, "'rungs' is .* ascending shares above 0, the last of them 1"),
        ({"rungs": [0.5, 0.2, 1]}, "ascending"),
        ({"rungs": []}, "ascending"),
        ({"keep": 1}, "'keep' is 1; expected a whole number from 2 on"),
        ({"tries": True}, "'tries' is true; expected a whole number"),
        ({"selection": 2.5}, "'selection' is 2.5; expected a number of images"),
        ({"search_seeds": [1, 1]}, "different whole numbers"),
        ({"train_images": 0}, "'train_images' is 0"),
    ],
)
def test_a_malformed_description(tmp_path, text, message):
    path = tmp_path / "search.json"
    path.write_text(json.dumps(text))
    with pytest.raises(UsageError, match=message) as caught:
        Search.read(path)
    assert str(path) in str(caught.value)


def test_a_description_replaces_what_it_names(tmp_path):
    path = tmp_path / "search.json"
    path.write_text('{"settings": {"weight": [1, 2]}, "tries": 5, "rungs": [0.1, 1]}')
    found = Search.read(path)
    assert found.settings["weight"] == (1, 2)
    assert found.settings["template"] == ("best",)
    assert (found.tries, found.rungs, found.keep) == (5, (0.1, 1), 3)


def test_rungs_of_too_few_steps():
    assert Search().steps(200) == [50, 100, 200]
    with pytest.raises(UsageError, match="give more --steps, or fewer rungs"):
        Search().steps(2)


def test_another_file_is_no_search(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": "caffe_port experiment 1"}')
    with pytest.raises(FormatError, match="expected the format 'caffe_port search 1'"):
        SearchResults.read(path)
    path.write_text('{"format": "caffe_port search 1", "final": null}')
    with pytest.raises(FormatError, match="not the results of a search"):
        SearchResults.read(path)
