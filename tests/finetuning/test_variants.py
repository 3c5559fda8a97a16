"""The recipes that a name selects, and the baseline of each."""

import pytest

from caffe_port.errors import UsageError
from caffe_port.finetuning.variants import baseline_of, find_variants
from tests.goldens_dir import SHAPES

NET = "deeplab_v2_resnet101_msc_aspp"
LOSSES = ["pull_correlation", "pull_cosine", "pull_push_correlation", "pull_push_cosine"]
ALL = [
    "poly_softmax", "step_softmax", *(f"poly_{x}" for x in LOSSES), *(f"step_{x}" for x in LOSSES)
]  # fmt: skip


def names(*arguments):
    return [variant.name for variant in find_variants(*arguments)]


@pytest.mark.parametrize("recipe", [NET, SHAPES / "caffe_run"])
def test_a_net_selects_all_its_recipes(recipe):
    assert names(recipe) == ALL


def test_a_recipe_selects_itself_and_its_baseline():
    assert names(f"{NET}/step_pull_cosine") == ["step_softmax", "step_pull_cosine"]
    assert names(f"{NET}/poly_softmax") == ["poly_softmax"]
    assert find_variants(f"{NET}/poly_softmax")[0].net == NET


def test_a_net_with_one_recipe_only():
    (variant,) = find_variants("deeplab_v2_vgg16_aspp")
    assert variant.name == "deeplab_v2_vgg16_aspp"
    assert "poly" in variant.recipe.solver


def test_some_of_them():
    assert names(NET, ["step_pull_cosine", "poly_softmax"]) == ["poly_softmax", "step_pull_cosine"]
    with pytest.raises(UsageError, match="no recipe 'poly_x'; there are poly_pull_correlation"):
        names(NET, ["poly_x"])


def test_a_missing_recipe():
    with pytest.raises(UsageError, match="no recipe 'nothing'"):
        find_variants("nothing")


def test_baselines():
    assert baseline_of("poly_pull_cosine", ALL) == "poly_softmax"
    assert baseline_of("poly_softmax", ALL) == "step_softmax"
    assert baseline_of("step_softmax", ALL) is None
    assert baseline_of("step_pull_cosine", ["step_pull_cosine"]) is None
