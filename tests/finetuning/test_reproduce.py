"""Published rows: what each needs, and that the numbers said of them are right."""

import dataclasses
import json
import re

import pytest

from caffe_port.crf.params import PRESETS
from caffe_port.datasets import dataset
from caffe_port.errors import UsageError
from caffe_port.finetuning import running
from caffe_port.finetuning.inputs import Options
from caffe_port.finetuning.published import (
    CITY,
    CONTEXT,
    DATA,
    INITS,
    NAMES,
    OTHER_NETS,
    OTHER_ROWS,
    PERSON,
    PUBLISHED,
    ROWS,
    find_published,
)
from caffe_port.finetuning.reproduce import (
    Resources,
    cells,
    outcome_of,
    plans,
    trials_of,
    write_report,
)  # fmt: skip
from caffe_port.finetuning.scoring import Control, Trial
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.text import parse_text
from caffe_port.recipes import read_recipe
from caffe_port.spec import NetSpec
from caffe_port.weights import read_weights, write_weights
from tests.finetuning.making import make_setting
from tests.goldens_dir import ROOT, SHAPES
from tests.test_prototxt_zoo import VARIABLES, ZOO, lists  # noqa: F401 - used by those that ask for it


def by_key(resources):
    return {plan.row.key: plan for plan in plans(resources)}


def test_keys_are_unique_and_their_parts_exist():
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.init in {*INITS, "bundled"}
        assert row.data in DATA
        assert not row.recipe or (ZOO / row.recipe.partition("/")[0] / "train.prototxt").is_file()
        assert not row.recipe or row.operations
        assert not row.crf or row.crf in PRESETS
        assert bool(row.recipe) != bool(row.note or row.key == "shapes")


def test_rows_of_other_nets_name_their_prototxt():
    for row in OTHER_NETS:
        folder = re.search(r"prototxt/(\w+)$", row.note).group(1)
        assert row.key.startswith(folder)
        assert (ZOO / folder / "deploy.prototxt").is_file()
        assert f"`{folder}/`" in (ZOO / "README.md").read_text()
    # single scale against several scales, and the two figures of a repository's README
    assert find_published("pspnet101_cityscapes-ms").before == pytest.approx(80.91)
    assert gain("pspnet50_ade20k", "pspnet50_ade20k-ms") == pytest.approx(1.10)


def gain(one, other, when="before"):
    return getattr(find_published(other), when) - getattr(find_published(one), when)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("largefov-step", "poly-30-6k", 1.17),
        ("poly-30-6k", "poly-30-10k", 1.48),
        ("resnet101-alone", "resnet101-msc", 2.55),
        ("resnet101-msc", "resnet101-msc-coco", 2.01),
        ("resnet101-msc-coco", "resnet101-msc-coco-aug", 1.6),
        ("resnet101-largefov", "resnet101", 0.8),
        ("context-vgg16", "context-resnet101", 2),
        ("context-msc", "context-msc-coco", 1.5),
        ("person-msc", "person-msc-coco", 1.3),
        ("cityscapes-vgg16-half", "cityscapes-vgg16", 1.9),
        ("cityscapes-resnet101", "cityscapes-largefov", 2.6),
        ("cityscapes-largefov", "cityscapes-aspp", 1.2),
        ("cityscapes-aspp", "cityscapes-aspp-aug", 0.6),
    ],
)
def test_rows_differ_by_what_the_papers_text_says(one, other, said):
    assert gain(one, other) == pytest.approx(said, abs=0.051)


def test_the_crf_gains_what_the_papers_text_says():
    full = gain("cityscapes-vgg16-half", "cityscapes-vgg16", "after")
    assert full == pytest.approx(1.8, abs=0.05)
    row = find_published("cityscapes-aspp-aug")
    assert row.after - row.before == pytest.approx(0.4)
    assert find_published("person-msc-coco").after == pytest.approx(60.16 + 4.78)  # Graph LSTM's
    assert find_published("context-aspp").after == pytest.approx(43.3 + 2.4)  # Adelaide Context's


def test_every_data_set_is_listed_with_what_is_needed():
    found = by_key(Resources())
    figures = {data: set() for data in DATA}
    for plan in found.values():
        if plan.row in OTHER_NETS:
            continue
        figures[plan.row.data] |= {plan.row.before, plan.row.after} - {None}
    assert figures[CONTEXT] == {37.6, 39.6, 41.4, 42.9, 43.5, 44.7, 45.7}
    assert figures[PERSON] == {58.9, 63.1, 64.4, 64.94, 62.18, 62.76}
    assert figures[CITY] == {
        62.97, 64.18, 64.89, 65.94, 66.6, 69.2, 70.4, 71.0, 71.4, 63.1
    }  # fmt: skip
    shown = cells(found["context-aspp"], None)
    assert shown[:5] == [
        "context-aspp", "PASCAL-Context: ResNet-101, best with ASPP (TPAMI 2017, table 6). Our "
        "choice: batch, crop, rate, updates and CRF (VOC 2012's)",
        "44.7 / 45.7", "PASCAL-Context, resnet101", "4.9",
    ]  # fmt: skip
    assert shown[5] == "no: needs --data pascal_context60=FOLDER, --init resnet101=FILE"
    shown = cells(found["cityscapes-vgg16-half"], None)
    assert shown[4:6] == ["-", f"no: {found['cityscapes-vgg16-half'].row.note}"]
    shown = cells(found["person-resnet101"], None)
    assert "Our choice: classifier (one 1 x 1 convolution), batch, crop, rate" in shown[1]
    assert shown[2:4] == ["58.90 / -", "PASCAL-Person-Part, resnet101_imagenet"]
    assert cells(found["shapes"], None)[2:4] == ["85.744 / 94.845", ""]


def test_the_bundled_row_says_what_caffe_got():
    row = find_published("shapes")
    caffe = json.loads((SHAPES / "caffe_run" / "result_val.json").read_text())
    figures = [100 * caffe[kind]["mean_iou"] for kind in ("raw", "crf")]
    assert [row.before, row.after] == pytest.approx(figures, abs=6e-4)


def operations(recipe, labels):
    """6 for each multiply-add of the training, 2 in layers that do not learn."""
    found = read_recipe(ZOO / recipe if "/" not in recipe else recipe)
    net = parse_net(found.train, variables={**VARIABLES, "NUM_LABELS": str(labels)})
    spec = NetSpec.build(net.message, phase="TRAIN", dialect=net.dialect, unknown=net.unknown)
    solver, _ = parse_text(found.solver, caffe_pb2.SolverParameter(), variables=VARIABLES)
    each = sum(
        layer.multiply_adds * (6 if not layer.params or any(p.lr_mult for p in layer.params) else 2)
        for layer in spec.layers
    )
    return each * solver.max_iter * solver.iter_size


@pytest.mark.parametrize(
    ("recipe", "data"),
    sorted({(row.recipe, row.data) for row in (*PUBLISHED, *OTHER_ROWS) if row.recipe}),
)
def test_operations_are_the_recipes_own(recipe, data, lists):  # noqa: F811
    labels = len(dataset(NAMES.get(data, "voc2012")).classes)
    wanted = operations(recipe, labels)
    for row in (*PUBLISHED, *OTHER_ROWS):
        if (row.recipe, row.data) == (recipe, data):
            assert row.operations == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("data", "labels"), [(CONTEXT, 60), (PERSON, 7), (CITY, 19)]
)  # fmt: skip
def test_recipes_of_other_data_sets_say_what_is_our_choice(data, labels):
    rows = [row for row in OTHER_ROWS if row.data == data and row.recipe]
    assert len(dataset(NAMES[data]).classes) == labels
    assert len(rows) == {CONTEXT: 6, PERSON: 5, CITY: 5}[data]
    for row in rows:
        assert "batch, crop, rate, updates and CRF (VOC 2012's)" in row.chosen
        assert ("windows" in row.chosen) == (data == CITY) == (row.overlap is not None)


def test_missing_resources_are_reported(tmp_path):
    found = by_key(Resources())
    assert found["shapes"].kind == "score"
    assert found["largefov-step"].why == "no: needs --data, --init vgg16=FILE"
    assert found["resnet101"].why == "no: needs --data, --init resnet101=FILE"
    assert found["msc-largefov"].why == "no: needs --data, --init largefov=FILE"
    assert {plan.kind for key, plan in found.items() if key != "shapes"} == {""}
    found = by_key(Resources({"": tmp_path}, {"vgg16": tmp_path}, {"resnet101": tmp_path}))
    assert found["resnet101"].kind == "score"
    assert found["largefov-step"].why.startswith("only by name: days on a CPU")
    gpu = by_key(Resources({"": tmp_path}, {"vgg16": tmp_path}, options=Options(device="cuda")))
    assert {key for key, plan in gpu.items() if plan.kind == "train"} == {
        row.key for row in PUBLISHED if row.init == "vgg16" and row.recipe
    }
    other = by_key(
        Resources({"cityscapes": tmp_path}, {"vgg16": tmp_path}, options=Options(device="cuda"))
    )
    assert [key for key, plan in other.items() if plan.kind == "train"] == ["cityscapes-vgg16"]
    named = plans(Resources({"": tmp_path}, {"vgg16": tmp_path}, rows=("aspp-l",)))
    assert [(plan.row.key, plan.kind) for plan in named] == [("aspp-l", "train")]


@pytest.mark.parametrize(
    "given",
    [
        {"rows": ("x",)},
        {"inits": {"x": ROOT}},
        {"weights": {"x": ROOT}},
        {"data": {"x": ROOT}},
    ],
)
def test_unknown_names(given):
    with pytest.raises(UsageError, match="no 'x'; there are "):
        Resources(**given)


def test_a_training_is_the_rows_own(tmp_path):
    (tmp_path / "w").write_bytes(b"")
    resources = Resources(
        {"": SHAPES}, {"vgg16": tmp_path / "w"}, rows=("thesis-step-no-dropout",), seeds=2
    )
    (plan,) = plans(resources)
    work = trials_of(plan, resources, tmp_path / "out")
    assert [(trial.variant.name, trial.seed) for trial in work] == [
        ("step_softmax", 1), ("step_softmax", 2)
    ]  # fmt: skip
    assert not work[0].setting.options.dropout
    assert work[0].setting.crf == PRESETS["v1_largefov"]
    assert work[0].folder.is_relative_to(tmp_path / "out" / "thesis-step-no-dropout")


def test_outcomes_and_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # for the example, where the package lies elsewhere
    setting, variants = make_setting(tmp_path)
    (plan,) = plans(Resources(rows=("shapes",)))
    work = trials_of(plan, Resources(), tmp_path / "out")
    assert outcome_of(work) is None
    assert (len(work), work[0].seed, len(work[0].setting.images.val)) == (1, None, 60)
    folder = tmp_path / "small"
    small = dataclasses.replace(work[0], setting=setting, variant=variants[0], folder=folder)
    running.run(small, Control(lambda: False, lambda what, part: None))
    outcome = outcome_of([small])
    assert (outcome.after, outcome.of) == ("-", "2 images of shapes_voc")
    assert 0 < float(outcome.before) < 100
    pairs = [(plan, outcome), *((other, None) for other in plans(Resources())[:2])]
    page = write_report(pairs, tmp_path / "report")
    assert f"{outcome.before} / -" in page.read_text(encoding="utf-8")
    values = json.loads((tmp_path / "report" / "rows.json").read_text())
    assert values[0]["ours"]["of"] == "2 images of shapes_voc"
    assert values[1]["before"] == 62.25
    assert cells(*pairs[1])[2:5] == ["62.25 / 67.64", "VOC 2012, vgg16", "1.5"]


def test_weights_of_another_net_are_refused(tmp_path):
    setting, variants = make_setting(tmp_path)
    stored = read_weights(setting.init)
    few = tmp_path / "few.caffemodel"
    kept = [dataclasses.replace(layer, name=layer.name.replace("scores", "fc8"))
            for layer in stored.layers]  # fmt: skip
    write_weights(few, kept, name="few")
    trial = Trial(dataclasses.replace(setting, init=few), variants[0], None, tmp_path / "run")
    running.run(trial, Control(lambda: False, lambda what, part: None))
    with pytest.raises(UsageError, match=r"few.*layer .scores., blob 0.*fc8.*which the net lacks"):
        outcome_of([trial])
