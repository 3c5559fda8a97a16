"""Scoring of a trained variant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe_port.crf import CRFParameters
from caffe_port.data.images import read_bgr, read_labels
from caffe_port.errors import UsageError
from caffe_port.evaluation.network import (
    VOC_MEAN,
    NetFactory,
    Settings,
    data_blob,
    image_size,
    network_input,
)
from caffe_port.evaluation.network import Options as EvaluationOptions
from caffe_port.evaluation.pipeline import evaluate
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.evaluation.steps import Progress
from caffe_port.finetuning.composed import Images, Options
from caffe_port.finetuning.variants import Similarities, Variant

if TYPE_CHECKING:
    from caffe_port.net import Net
    from caffe_port.spec import NetSpec


# What a run of an experiment is: a recipe, a seed, and what all runs share.


@dataclass(frozen=True)
class Setting:
    """What all runs of an experiment share; it is pickled to the processes that run them.

    Attributes:
        images: what it trains and evaluates on.
        init: the weights that every run starts from.
        options: the choices of the experiment.
        crf: refines the scores; without it there are no figures after the CRF.
    """

    images: Images
    init: Path
    options: Options
    crf: CRFParameters | None


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        setting: shared by all.
        variant: which recipe.
        seed: of fillers, shuffles, crops, flips and dropout; None scores ``setting.init`` itself.
        folder: where it is kept.
    """

    setting: Setting
    variant: Variant
    seed: int | None
    folder: Path

    @property
    def title(self) -> str:
        """For the progress."""
        return self.folder.name if self.seed is None else f"{self.variant.name}, seed {self.seed}"


@dataclass(frozen=True)
class Control:
    """How a run and those who wait for it speak.

    Attributes:
        stopped: whether somebody wants the end.
        update: takes what is being done, and the part of it that is done, 0 to 1.
    """

    stopped: Callable[[], bool]
    update: Callable[[str, float], None]


class StoppedError(Exception):
    """The run was asked to end; what it did is kept."""


# Figures of weights: mean IoU before and after the CRF, and similarities of class templates.

SIMILARITIES = ("cosine", "correlation")
_IGNORED = 255


@dataclass(frozen=True)
class _Factory(NetFactory):
    """Says what decides its scores without the paths that the net's text holds."""

    texts: dict[str, object] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {"weights": super().describe()["weights"], **self.texts}


def score(
    trial: Trial,
    weights: Path,
    texts: Mapping[str, object],
    progress: Progress,
) -> dict[str, Any]:
    """Scores weights with the run's test net.

    Args:
        trial: its folder holds the nets already; label maps go below it.
        weights: of the test net.
        texts: digests of the texts that decide their scores, wherever the files are.
        progress: called after each image.
    Returns:
        'before' and 'after' (None without a CRF), and 'templates'.
    Raises:
        CaffePortError: the weights are not the test net's, or an image cannot be used.
    """
    setting, test = trial.setting, trial.folder / "test.prototxt"
    factory = _Factory(str(test), str(weights), device=setting.options.device, texts=dict(texts))
    net = factory.load()
    judged = _settings(net, trial.folder / "train.prototxt")
    result = evaluate(
        setting.images.val,
        factory,
        trial.folder / "evaluation",
        judged,
        make_refiner=None if setting.crf is None else CRFFactory(setting.crf, mean=judged.mean),
        progress=progress,
    )
    return {
        "images": len(result.items),
        "before": _figures(result.before),
        "after": _figures(result.after),
        "templates": _templates(trial, net, judged),
    }


def _settings(net: Net, train: Path) -> EvaluationOptions:
    """Crop of the test net and mean of the train net."""
    from caffe_port.proto import read_net

    sources = [layer for layer in read_net(train).layer if layer.type == "ImageSegData"]
    mean = tuple(sources[0].transform_param.mean_value) or VOC_MEAN
    if len(mean) != 3:
        raise UsageError(f"{train}: {len(mean)} mean_value; expected three: blue, green, red")
    return EvaluationOptions(image_size(net.spec), (mean[0], mean[1], mean[2]))


def _figures(matrix: ConfusionMatrix | None) -> dict[str, Any] | None:
    if matrix is None:
        return None
    return {
        "mean_iou": matrix.mean_iou(),
        "iou": [None if math.isnan(x) else x for x in matrix.iou().tolist()],
        "confusion": matrix.counts.tolist(),
    }


def judged_blob(train: Path, test: NetSpec) -> str | None:
    """The blob before the softmax: what a loss of the train net reads and the test net has too."""
    from caffe_port.proto import read_net

    losses = [x for x in read_net(train).layer if x.type in ("FeedbackLoss", "SoftmaxWithLoss")]
    found = [layer.bottom[0] for layer in losses if layer.bottom[0] in test.shapes]
    return found[0] if found else None


def _templates(trial: Trial, net: Net, settings: Settings) -> dict[str, Any] | None:
    """(C, C) by similarity, over the validation images on the grid of the scores."""
    import torch

    blob = judged_blob(trial.folder / "train.prototxt", net.spec)
    if blob is None:
        return None
    device = trial.setting.options.device
    net = net.to(device)
    classes, data = net.spec.shapes[blob][1], data_blob(net.spec)
    sums = {name: Similarities(classes, name) for name in SIMILARITIES}
    for item in trial.setting.images.val:
        x = torch.from_numpy(network_input(read_bgr(item.image), settings))
        with torch.inference_mode():
            scores = (
                net({data: x.to(trial.setting.options.device)}, keep=[blob])[blob].float().cpu()
            )
        assert item.label is not None
        labels = _on_grid(read_labels(item.label), settings.crop, tuple(scores.shape[2:]))
        for similarity in sums.values():
            similarity.add(scores, labels)
    return {
        name: [[None if math.isnan(x) else x for x in row] for row in found.means().tolist()]
        for name, found in sums.items()
    }


def _on_grid(labels: Any, crop: tuple[int, int], grid: tuple[int, ...]) -> Any:
    """Labels where the scores' pixels lie, as Interp's shrinking takes them."""
    padded = np.full(crop, _IGNORED, np.int64)
    padded[: labels.shape[0], : labels.shape[1]] = labels
    rows, columns = (
        np.round(np.linspace(0, side - 1, count)).astype(int)
        for side, count in zip(crop, grid, strict=True)
    )
    return padded[np.ix_(rows, columns)]
