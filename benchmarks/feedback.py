"""The feedback losses: their time in a LargeFOV training step, their memory, the kernels.

LargeFOV at 321 x 321, batch 10, random weights, forward and backward. Run it with
`python -m benchmarks feedback`; it needs 8 GB and some minutes. Without Triton the kernels' tables
are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import caffe_port
from benchmarks.measure import interleave, report, summary, versions
from caffe_port.losses import FeedbackOptions, feedback_loss
from caffe_port.losses.feedback import has_triton

ROOT = Path(__file__).parent.parent
PROTOTXT = ROOT / "prototxt" / "deeplab_v2_vgg16_largefov" / "train.prototxt"
VARIABLES = {"EXP": "voc12", "NUM_LABELS": 21, "NET_ID": "vgg", "DATA_ROOT": "", "TRAIN_SET": "t"}
BATCH, SIZE, GRID = 10, 321, 41
SMALL = 21  # the interpreter is slow; what is kept per pixel does not depend on it
WAYS = {
    "naive best, cosine": None,
    "best, cosine": FeedbackOptions(ignore_labels=(255,)),
    "best, correlation": FeedbackOptions(ignore_labels=(255,), similarity="correlation"),
    "mean, learned": FeedbackOptions(ignore_labels=(255,), template="mean", detach=False),
    "top-k, correlation, learned": FeedbackOptions(
        ignore_labels=(255,), template="top-k", detach=False, similarity="correlation"
    ),
}


def labels_of(items: int, size: int) -> Tensor:
    """Label maps of four classes in quarters, with an ignored border."""
    labels = torch.full((items, size, size), 255)
    half = size // 2
    labels[:, 2:half, 2:half], labels[:, 2:half, half:-2] = 0, 15
    labels[:, half:-2, 2:half], labels[:, half:-2, half:-2] = 7, 0
    return labels


def training_step() -> Callable[[], object]:
    """LargeFOV's forward and backward."""
    net = caffe_port.load(
        PROTOTXT, phase="TRAIN", variables=VARIABLES, dialect="deeplab2",
        input_shapes={"data": (BATCH, 3, SIZE, SIZE), "label": (BATCH, 1, SIZE, SIZE)},
    )  # fmt: skip
    blobs = {"data": torch.randn(BATCH, 3, SIZE, SIZE) * 50}
    blobs["label"] = labels_of(BATCH, SIZE)[:, None].float()

    def step() -> None:
        net.zero_grad()
        (loss,) = (blob for blob in net(blobs).values() if blob.requires_grad)
        loss.backward()

    return step


def loss_step(channels: int, options: FeedbackOptions | None) -> Callable[[], object]:
    """A loss's forward and backward at fc8 (21 channels, its own scores) or fc7; None: naive."""
    features = torch.randn(BATCH, channels, GRID, GRID, requires_grad=True)
    scores = torch.randn(BATCH, 21, GRID, GRID) if channels != 21 else None
    labels = labels_of(BATCH, GRID)

    def step() -> None:
        features.grad = None
        if options is None:
            loss = naive_loss(features, labels, features.detach() if scores is None else scores)
        else:
            loss = feedback_loss(features, labels, scores, options, path="torch")
        loss.backward()

    return step


def naive_loss(features: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """The default options written naively: every pixel is compared with every template."""
    pulls, pushes = [], []
    for feature, label, score in zip(
        features.flatten(2), labels.flatten(1), scores.flatten(2), strict=True
    ):
        present = [int(c) for c in label.unique() if c != 255]
        best = []
        for c in present:
            right = (label == c) & (score.argmax(0) == c)
            among = right if right.any() else label == c
            best.append(feature[:, score[c].masked_fill(~among, -torch.inf).argmax()].detach())
        similarity = torch.nn.functional.cosine_similarity(
            torch.stack(best)[:, :, None], feature[None], dim=1
        )
        for i, d in enumerate(present):
            mine = similarity[:, label == d]
            pulls.append((1 - mine[i]).mean())
            pushes += [mine[j].relu().mean() for j in range(len(present)) if j != i]
    return torch.stack(pulls).mean() + torch.stack(pushes).mean()


def kept(run: Callable[[Tensor], Tensor], features: Tensor) -> float:
    """Bytes kept for the backward besides the features, as a multiple of the features'."""
    leaf = features.clone().requires_grad_()
    sizes = {}

    def note(x: Tensor) -> Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss = run(leaf)
    assert loss.requires_grad
    sizes.pop(leaf.untyped_storage().data_ptr(), None)
    return round(sum(sizes.values()) / leaf.untyped_storage().nbytes(), 3)


def memory(channels: int) -> dict[str, dict[str, float]]:
    """The memory that each implementation keeps for the backward."""
    features, scores = torch.randn(1, channels, SMALL, SMALL), torch.randn(1, 21, SMALL, SMALL)
    labels = labels_of(1, SMALL)
    options = FeedbackOptions(ignore_labels=(255,))
    ways = {"naive": lambda x: naive_loss(x, labels, scores)}
    for path in ("torch", "triton") if has_triton() else ("torch",):
        ways[path] = lambda x, path=path: feedback_loss(x, labels, scores, options, path=path)
    return {name: {"times the features": kept(way, features)} for name, way in ways.items()}


def kernels() -> dict[str, dict[str, int]]:
    """What the kernels need of a GPU, compiled in a process without the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = [sys.executable, "-m", "caffe_port.losses.ahead_of_time"]
    found = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def main(repeats: int = 3) -> None:
    """Measures and reports."""
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: there is no GPU to count on
    ways = {"LargeFOV training step": training_step()}
    for name, options in WAYS.items():
        ways[f"at fc8 (21 channels): {name}"] = loss_step(21, options)
        ways[f"at fc7 (1024 channels): {name}"] = loss_step(1024, options)
    tables: dict[str, object] = {
        f"{SIZE} x {SIZE}, batch {BATCH}; ratio to the step": summary(
            interleave(ways, repeats), "LargeFOV training step"
        ),
        "kept for the backward, fc8": memory(21),
        "kept for the backward, fc7": memory(1024),
    }
    if has_triton():
        tables["kernels: per thread and block"] = kernels()
    report("feedback", {"versions": versions("torch", "triton"), "tables": tables})


if __name__ == "__main__":
    main()
