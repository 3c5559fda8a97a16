"""`caffe train` with a published recipe's feedback losses, on the bundled example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from caffe_port.cli.caffe import main
from caffe_port.layers.segmentation_losses import FeedbackLoss
from caffe_port.losses import feedback_loss, softmax_loss
from caffe_port.solver.solver import Solver
from caffe_port.solver.training import Training
from tests.goldens_dir import ROOT, SHAPES

RUN = SHAPES / "caffe_run"
WEIGHTS = RUN / "model" / "train_iter_1200.caffemodel"
RECIPES = ROOT / "prototxt" / "deeplab_v2_vgg16_largefov" / "recipes"
SOLVER = """
train_net: "train.prototxt" base_lr: 0.001 lr_policy: "poly" power: 0.9 momentum: 0.9
weight_decay: 0.0005 max_iter: 4 display: 1 snapshot: 2 snapshot_prefix: "snap" random_seed: 3
solver_mode: CPU
"""
LOSS = re.compile(r"Iteration (\d+)\b.*, loss = (\S+)")
OUTPUT = re.compile(r"Train net output #\d+: (\w+) = (\S+)")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's train net with small crops of two images, and a solver of four steps."""
    text = (RUN / "train.prototxt").read_text()
    for old, new in (("size: 8", "size: 2"), ("size: 113", "size: 65"), ("${ROOT}", str(SHAPES))):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "train.prototxt").write_text(text)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_losses(work: Path, recipe: str) -> None:
    text = (RECIPES / recipe / "feedback.prototxt").read_text().replace("${EXP}", "shapes")
    with (work / "train.prototxt").open("a") as stream:
        stream.write(text)


def test_it_trains_and_resumes(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The log has both losses, a step's loss is their sum, and a run may be broken off."""
    add_losses(work, "poly_pull_push_cosine")
    assert main(["train", "--solver=solver.prototxt", f"--weights={WEIGHTS}"]) == 0
    log = capfd.readouterr().err
    total = [float(value) for _, value in LOSS.findall(log)]
    outputs = [(name, float(value)) for name, value in OUTPUT.findall(log)]
    feedback, softmax = ([v for n, v in outputs if n == name] for name in ("feedback", "loss"))
    assert "(* 0.2 = " in log.split("feedback = ")[1].splitlines()[0]
    assert min(feedback) > 0
    sums = [0.2 * a + b for a, b in zip(feedback, softmax, strict=True)]
    assert total[: len(sums)] == pytest.approx(sums, rel=2e-5)

    unbroken = (work / "snap_iter_4.caffemodel").read_bytes()
    assert main(["train", "--solver=solver.prototxt", "--snapshot=snap_iter_2.solverstate"]) == 0
    assert (work / "snap_iter_4.caffemodel").read_bytes() == unbroken


def test_a_step_uses_the_function(work: Path) -> None:
    """In it the gradient of the weights is that of both losses."""
    add_losses(work, "poly_pull_push_correlation")
    training = Training("solver.prototxt")
    training.finetune(WEIGHTS)
    training.net.forward()
    training.net.backward()
    blobs = training.net.blobs
    scores, labels = (
        torch.from_numpy(blobs[name].data.copy()) for name in ("fc8_shapes", "label_shrink")
    )
    scores.requires_grad_()
    options = training.net._net.module("feedback").options
    assert (options.similarity, options.push_weight) == ("correlation", 1)
    assert (options.template, options.include_background) == ("mean", False)
    wanted = feedback_loss(scores, labels, options=options)
    assert blobs["feedback"].data.item() == pytest.approx(wanted.item(), rel=1e-6)
    both = 0.2 * wanted + softmax_loss(scores, labels, ignore_labels=(255,))
    (diff,) = torch.autograd.grad(both, scores)
    found = torch.from_numpy(blobs["fc8_shapes"].diff.copy())
    assert torch.allclose(found, diff, atol=1e-8)


@pytest.mark.parametrize("kind", [Training, Solver])
def test_a_ramp_up_follows_the_iterations(work: Path, kind: type[Solver]) -> None:
    """Fused steps and those of pycaffe: (i + 1) / ramp_up, for a resumed run too."""
    add_losses(work, "poly_pull_cosine")
    text = (work / "train.prototxt").read_text()
    assert text.count("push_weight: 0") == 1
    (work / "train.prototxt").write_text(
        text.replace("push_weight: 0", "push_weight: 0 ramp_up: 5")
    )
    solver, factors = kind("solver.prototxt"), []
    (layer,) = (x for x in solver.net._net.modules() if isinstance(x, FeedbackLoss))
    layer.register_forward_hook(
        lambda module, bottoms, tops: factors.append(
            tops[0].item() / feedback_loss(*bottoms, options=layer.options).item()
        )
    )
    solver.net.copy_from(str(WEIGHTS))
    solver.step(3)
    assert factors == pytest.approx([0.2, 0.4, 0.6], rel=1e-5)
    resumed = kind("solver.prototxt")
    resumed.restore("snap_iter_2.solverstate")
    (other,) = (x for x in resumed.net._net.modules() if isinstance(x, FeedbackLoss))
    resumed.step(1)
    assert other.iteration == 2
