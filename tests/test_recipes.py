"""The recipes in prototxt/ and of one's own: found, put together, of the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_port.errors import FormatError, UsageError
from caffe_port.proto import caffe_pb2, parse_net, parse_text
from caffe_port.recipes import read_recipe, recipe_names
from caffe_port.spec import NetSpec
from tests.goldens_dir import ROOT
from tests.test_prototxt_zoo import VARIABLES, lists  # noqa: F401 - used by every test here

LARGEFOV = "deeplab_v2_vgg16_largefov"
LOSSES = ["softmax"] + [
    f"{terms}_{similarity}"
    for terms in ("pull", "pull_push")
    for similarity in ("cosine", "correlation")
]
NETS = {
    "deeplab_v1_largefov": ["step"],
    LARGEFOV: ["poly"],
    "deeplab_v2_resnet101_msc_aspp": ["poly", "step"],
}
POLICIES = {
    "step": {"lr_policy": "step", "gamma": 0.1, "stepsize": 2000, "max_iter": 6000},
    "poly": {"lr_policy": "poly", "power": 0.9, "max_iter": 20000},
}


def test_every_net_has_every_loss_by_every_policy() -> None:
    wanted = [
        f"{net}/{policy}_{loss}"
        for net, policies in NETS.items()
        for policy in policies
        for loss in LOSSES
    ]
    assert recipe_names() == sorted(wanted)


def spec_of(text: str) -> NetSpec:
    net = parse_net(text, variables=VARIABLES)
    spec = NetSpec.build(net.message, phase="TRAIN", dialect=net.dialect, unknown=net.unknown)
    assert spec.unknown == ()
    return spec


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_the_published_net_with_its_losses(name: str) -> None:
    recipe = read_recipe(name)
    net, _, variant = name.partition("/")
    policy, _, loss = variant.partition("_")
    spec = spec_of(recipe.train)
    scored = [x.bottoms for x in spec.layers if x.type == "SoftmaxWithLoss"]
    feedback = [x for x in spec.layers if x.type == "FeedbackLoss"]
    number = 0 if loss == "softmax" else 1 if "largefov" in net else 4
    assert len(feedback) == number
    # the same blobs, though each user of one has a copy of its own
    origin = {top: x.bottoms[0] for x in spec.layers if x.type == "Split" for top in x.tops}
    blobs = [[origin[b] for b in x.bottoms] for x in feedback]
    assert blobs == [[origin[b] for b in bottoms] for bottoms in scored][:number]
    for layer in feedback:
        assert layer.loss_weights == pytest.approx((0.2,))
        assert (layer.op.template, layer.op.include_background) == ("mean", False)
        assert layer.op.similarity == loss.rpartition("_")[2]
        assert (layer.op.pull_weight, layer.op.push_weight) == (1, "push" in loss)
        assert layer.op.ignore_labels == (255,)
    assert "FeedbackLoss" not in recipe.test

    solver, _ = parse_text(recipe.solver, caffe_pb2.SolverParameter(), variables=VARIABLES)
    assert {key: getattr(solver, key) for key in POLICIES[policy]} == pytest.approx(
        POLICIES[policy]
    )
    batch = spec.shapes["data"][0] * solver.iter_size
    base_lr = 0.001 if "largefov" in net else 0.00025
    assert batch == (30 if "v1" in net else 10)
    assert solver.base_lr == pytest.approx(base_lr)
    assert (solver.momentum, solver.weight_decay) == pytest.approx((0.9, 0.0005))


def test_a_softmax_recipe_is_the_net_itself() -> None:
    for net, policies in NETS.items():
        recipe = read_recipe(f"{net}/{policies[0]}_softmax")
        for kind in ("solver", "train", "test"):
            text = (ROOT / "prototxt" / net / f"{kind}.prototxt").read_text()
            assert getattr(recipe, kind) == text


def test_the_readme_names_every_recipe() -> None:
    text = (ROOT / "prototxt" / "README.md").read_text()
    for net, policies in NETS.items():
        assert f"`{net}` | `{policies[0]}_softmax`" in text
    assert all(f"_{loss}`" in text for loss in LOSSES)


def own(tmp_path: Path, **texts: str) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for kind, text in texts.items():
        (folder / f"{kind}.prototxt").write_text(text)
    return folder


def test_a_custom_folder(tmp_path: Path) -> None:
    folder = own(tmp_path, solver="s", train="t", test="u", feedback="f")
    recipe = read_recipe(folder)
    assert (recipe.name, recipe.solver, recipe.train, recipe.test) == ("mine", "s", "t\nf", "u")


@pytest.mark.parametrize("missing", ["solver", "train", "test"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    texts = {"solver": "", "train": "", "test": ""}
    del texts[missing]
    # the folder above is no net's
    (tmp_path / f"{missing}.prototxt").write_text("")
    with pytest.raises(UsageError, match=f"mine' has no {missing}.prototxt; expected .*mine"):
        read_recipe(own(tmp_path, **texts))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = own(tmp_path, solver="\0", train="", test="")
    with pytest.raises(FormatError, match=r"solver\.prototxt.*binary"):
        read_recipe(folder)


@pytest.mark.parametrize("name", ["nothing", f"{LARGEFOV}/step_softmax", f"{LARGEFOV}/../x"])
def test_a_missing_recipe(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no recipe '{name}'.*{LARGEFOV}/poly_pull_cosine"):
        read_recipe(name)
