"""A recipe's texts made ready for a run."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.images import read_labels
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import score_blob
from caffe_port.finetuning.inputs import Options, RenderedRecipe, find_images
from caffe_port.finetuning.scoring import loss_blob
from caffe_port.finetuning.variants import find_variants
from caffe_port.proto import read_net, read_solver
from caffe_port.recipes import Recipe
from caffe_port.spec import NetSpec
from tests.finetuning.making import VARIABLES, make_images, make_recipes, make_shifted
from tests.goldens_dir import SHAPES


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path)


@pytest.fixture
def variant(tmp_path):
    return find_variants(make_recipes(tmp_path))[1]


def test_what_is_written_is_ready_for_caffe_train(tmp_path, images, variant):
    composed = RenderedRecipe(variant, images, Options(VARIABLES))
    solver = read_solver(composed.write(tmp_path / "run", 7))
    assert (solver.random_seed, solver.max_iter, solver.stepsize) == (7, 8, 4)
    assert solver.snapshot == 3
    assert not solver.HasField("solver_mode")
    net = read_net(solver.train_net)
    assert [layer.type for layer in net.layer][-1] == "FeedbackLoss"
    data = net.layer[0].image_data_param
    lines = [line.split() for line in Path(data.source).read_text().splitlines()]
    assert len(lines) == 6
    assert all((SHAPES / word.lstrip("/")).is_file() for line in lines for word in line)
    assert data.root_folder == str(SHAPES)
    test = read_net(tmp_path / "run" / "test.prototxt")
    assert Path(test.layer[0].image_data_param.source).read_text().count("\n") == 2


def test_the_published_recipes_need_no_variable_of_the_user(images):
    net = "deeplab_v1_largefov"
    composed = RenderedRecipe(find_variants(net)[0], images, Options())
    assert composed.train.name == net
    assert any(layer.name == "fc8_voc12" for layer in composed.train.layer)


@pytest.mark.parametrize(
    ("recipe", "scores", "scored", "side"),
    [
        ("deeplab_v1_largefov/step_pull_cosine", "fc8_interp", "fc8_voc12", 65),
        ("deeplab_v1_msc_largefov", "fc_fusion", "fc_fusion", 513),
        ("deeplab_v2_vgg16_aspp", "fc8_interp", "fc8_voc12", 65),
        ("deeplab_v2_resnet101_largefov", "fc1_interp", "fc1_voc12", 65),
    ],
)
def test_a_published_net_can_be_scored(tmp_path, images, recipe, scores, scored, side):
    composed = RenderedRecipe(find_variants(recipe)[-1], images, Options())
    composed.write(tmp_path, 1)
    spec = NetSpec.read(tmp_path / "test.prototxt", phase="TEST")
    assert score_blob(spec) == scores
    assert loss_blob(tmp_path / "train.prototxt", spec) == scored
    assert spec.shapes[scored] == (1, 21, side, side)


def test_steps_shrink_with_the_length(images, variant):
    solver = RenderedRecipe(variant, images, Options(VARIABLES, steps=2)).solver
    assert (solver.max_iter, solver.stepsize) == (2, 1)
    recipe = dataclasses.replace(
        variant.recipe, solver='lr_policy: "multistep" stepvalue: 10 stepvalue: 15 max_iter: 20'
    )
    multistep = dataclasses.replace(variant, recipe=recipe)
    solver = RenderedRecipe(multistep, images, Options(VARIABLES, steps=200)).solver
    assert list(solver.stepvalue) == [100, 150]


def test_without_dropout(images, variant):
    kinds = {
        keeps: [
            x.type
            for x in RenderedRecipe(variant, images, Options(VARIABLES, dropout=keeps)).train.layer
        ]
        for keeps in (True, False)
    }
    assert kinds[False] == [kind for kind in kinds[True] if kind != "Dropout"]
    assert "Dropout" in kinds[True]


def test_without_rescaling(images):
    (variant,) = find_variants("deeplab_v2_resnet101")
    factors = [
        list(
            RenderedRecipe(variant, images, Options(rescaling=keeps))
            .train.layer[0]
            .transform_param.scale_factors
        )
        for keeps in (True, False)
    ]
    assert factors == [[0.5, 0.75, 1, 1.25, 1.5], []]


def test_a_data_set_fills_the_template(tmp_path, variant):
    images = make_shifted(tmp_path)
    composed = RenderedRecipe(find_variants("deeplab_v2_resnet101_aspp")[0], images, Options())
    scores = [x for x in composed.train.layer if x.name.startswith("fc1_shifted_c")]
    assert [x.convolution_param.num_output for x in scores] == [6, 6, 6, 6]
    given = Options({"EXP": "mine", "NUM_LABELS": "3"})
    composed = RenderedRecipe(find_variants("deeplab_v2_resnet101")[0], images, given)
    (scores,) = [x for x in composed.train.layer if x.name == "fc1_mine"]
    assert scores.convolution_param.num_output == 3


def test_label_maps_of_a_data_set_become_classes_for_the_training(tmp_path, variant):
    plain, images = make_images(tmp_path), make_shifted(tmp_path)
    folder = tmp_path / "runs" / "run"
    RenderedRecipe(variant, images, Options(VARIABLES)).write(folder, 1)
    for kind, items in (("train", plain.train), ("test", plain.val)):
        lines = [line.split() for line in (folder / f"{kind}.txt").read_text().splitlines()]
        assert len(lines) == len(items)
        for (image, label), item in zip(lines, items, strict=True):
            assert Path(f"{images.root}{image}").resolve() == item.image.resolve()
            assert (read_labels(f"{images.root}{label}") == read_labels(item.label)).all()
    assert set(images.describe()) == {"train", "val", "rules"}


def test_a_replaced_label_map_is_converted_again_though_it_is_older(tmp_path, variant):
    images = make_shifted(tmp_path)
    item, folder = images.train[0], tmp_path / "runs" / "run"
    composed = RenderedRecipe(variant, images, Options(VARIABLES))
    composed.write(folder, 1)
    stored = np.asarray(Image.open(item.label))
    replaced = np.where(stored == 1, 2, stored).astype(np.uint8)
    assert (replaced != stored).any()
    Image.fromarray(replaced).save(item.label)
    os.utime(item.label, (0, 0))
    composed.write(folder, 1)
    _, label = (folder / "train.txt").read_text().splitlines()[0].split()
    made = np.asarray(Image.open(f"{images.root}{label}"))
    assert (made == np.where(replaced == 0, 255, replaced.astype(int) - 1)).all()


def test_other_colours_of_a_data_set_are_other_rules(tmp_path):
    images = make_shifted(tmp_path)
    rules = dataclasses.replace(images.rules, colours=((1, 2, 3), *images.rules.colours[1:]))
    assert repr(rules) == repr(images.rules)
    other = dataclasses.replace(images, data=dataclasses.replace(images.data, rules=rules))
    assert other.describe()["rules"] != images.describe()["rules"]


def test_what_decides_a_run_does_not_depend_on_where_it_is(tmp_path, images, variant):
    composed = RenderedRecipe(variant, images, Options(VARIABLES))
    before = composed.describe()
    composed.write(tmp_path / "run", 1)
    assert composed.describe() == before
    shutil.copytree(SHAPES, tmp_path / "moved", ignore=shutil.ignore_patterns("caffe_run"))
    moved = find_images(
        tmp_path / "moved", *(str(tmp_path / f"{x}_few.txt") for x in ("train", "val"))
    )
    assert moved.describe() == images.describe()
    assert RenderedRecipe(variant, moved, Options(VARIABLES)).describe() == before
    assert RenderedRecipe(variant, moved, Options(VARIABLES, steps=2)).describe() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "no ImageSegData layer"),
        ("solver", "unknown field 'max_iters'"),
    ],
)
def test_recipes_that_cannot_be_used(images, variant, text, message):
    broken = {"train": 'layer { name: "in" type: "DummyData" top: "x" }', "solver": "max_iters: 1"}
    recipe = dataclasses.replace(variant.recipe, **{text: broken[text]})
    assert isinstance(recipe, Recipe)
    with pytest.raises(UsageError, match=message):
        RenderedRecipe(dataclasses.replace(variant, recipe=recipe), images, Options(VARIABLES))


def test_dropout_that_is_not_in_place(images, variant):
    train = variant.recipe.train.replace('"Dropout" bottom: "conv" top: "conv"',
                                         '"Dropout" bottom: "conv" top: "other"')  # fmt: skip
    odd = dataclasses.replace(variant, recipe=dataclasses.replace(variant.recipe, train=train))
    with pytest.raises(UsageError, match="layer 'drop': only Dropout in place"):
        RenderedRecipe(odd, images, Options(VARIABLES, dropout=False))


def test_lists(tmp_path):
    both = find_images(SHAPES)
    assert (len(both.train), len(both.val)) == (400, 60)
    shutil.copytree(SHAPES / "JPEGImages", tmp_path / "JPEGImages")
    (tmp_path / "list.txt").write_text("shape_val_0000\n")
    with pytest.raises(DataError, match="no label maps"):
        find_images(tmp_path, *[str(tmp_path / "list.txt")] * 2)
