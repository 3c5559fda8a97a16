"""Scores trained weights: mean IoU before and after the CRF, similarities of class templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe_port.crf import CRFParameters
from caffe_port.data.images import read_bgr
from caffe_port.errors import UsageError
from caffe_port.evaluation.network import (
    VOC_MEAN,
    NetFactory,
    Settings,
    data_blob,
    image_size,
)
from caffe_port.evaluation.network import Options as EvaluationOptions
from caffe_port.evaluation.pipeline import evaluate
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.score_net import network_input
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.evaluation.steps import Progress
from caffe_port.finetuning.inputs import Images, Options
from caffe_port.finetuning.variants import Similarities, Variant

if TYPE_CHECKING:
    from caffe_port.net import Net
    from caffe_port.spec import NetSpec


@dataclass(frozen=True)
class Setting:
    """The settings that all runs of an experiment share; pickled for the worker processes.

    Attributes:
        images: the images to train and to evaluate on.
        init: the initial weights of all runs.
        options: the choices of the experiment.
        crf: its parameters; None for no figures after the CRF.
    """

    images: Images
    init: Path
    options: Options
    crf: CRFParameters | None


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        setting: of all runs.
        variant: the recipe.
        seed: of fillers, shuffles, crops, flips and dropout; None scores ``setting.init`` itself.
        folder: its files.
        updates: None trains to the end; otherwise the run pauses after so many updates and is
            scored as it is then, without similarities of templates. A longer trial of the same
            folder continues it.
    """

    setting: Setting
    variant: Variant
    seed: int | None
    folder: Path
    updates: int | None = None

    @property
    def result(self) -> Path:
        """The file of its figures, written last."""
        mark = "" if self.updates is None else f"_{self.updates}"
        return self.folder / f"result{mark}.json"

    @property
    def title(self) -> str:
        """The title in progress messages."""
        return self.folder.name if self.seed is None else f"{self.variant.name}, seed {self.seed}"


@dataclass(frozen=True)
class Control:
    """Connects a run with its caller.

    Attributes:
        stopped: whether the run has to stop.
        update: called with the present activity, and its progress from 0 to 1.
    """

    stopped: Callable[[], bool]
    update: Callable[[str, float], None]


class StoppedError(Exception):
    """The run was stopped; completed results are kept."""


SIMILARITIES = ("cosine", "correlation")
_IGNORED = 255


@dataclass(frozen=True)
class _Factory(NetFactory):
    """Describes what determines the scores without the paths in the net's text."""

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
        trial: its folder has the nets; label maps are written below it.
        weights: of the test net.
        texts: digests of the texts that determine the scores.
        progress: called after each image.
    Returns:
        'before' and 'after' (None without a CRF), and 'templates'.
    Raises:
        CaffePortError: the weights do not fit the test net, or an image cannot be used.
    """
    setting, test = trial.setting, trial.folder / "test.prototxt"
    factory = _Factory(str(test), str(weights), device=setting.options.device, texts=dict(texts))
    net = factory.load()
    settings = _settings(net, trial)
    result = evaluate(
        setting.images.val,
        factory,
        trial.folder / trial.result.stem.replace("result", "evaluation"),
        settings,
        make_refiner=None if setting.crf is None else CRFFactory(setting.crf, mean=settings.mean),
        progress=progress,
    )
    return {
        "images": len(result.items),
        "before": _figures(result.before),
        "after": _figures(result.after),
        "templates": None if trial.updates else _templates(trial, net, settings),
    }


def _settings(net: Net, trial: Trial) -> EvaluationOptions:
    """Crop of the test net, mean of the train net, and what the label maps mean."""
    from caffe_port.evaluation.test_time import InferenceOptions
    from caffe_port.proto import read_net

    train, overlap = trial.folder / "train.prototxt", trial.setting.options.overlap
    images = trial.setting.images
    sources = [layer for layer in read_net(train).layer if layer.type == "ImageSegData"]
    mean = tuple(sources[0].transform_param.mean_value) or VOC_MEAN
    if len(mean) != 3:
        raise UsageError(f"{train}: {len(mean)} mean_value; expected three: blue, green, red")
    return EvaluationOptions(
        image_size(net.spec),
        (mean[0], mean[1], mean[2]),
        inference=None if overlap is None else InferenceOptions(overlap=overlap),
        labels=None if images.data is None else images.rules,
        colours=None if images.data is None else images.data.colours,
    )


def _figures(matrix: ConfusionMatrix | None) -> dict[str, Any] | None:
    if matrix is None:
        return None
    return {
        "mean_iou": matrix.mean_iou(),
        "iou": [None if math.isnan(x) else x for x in matrix.iou().tolist()],
        "confusion": matrix.counts.tolist(),
    }


def loss_blob(train: Path, test: NetSpec) -> str | None:
    """The blob before the softmax: a bottom of a loss of the train net that the test net has."""
    from caffe_port.proto import read_net

    losses = [x for x in read_net(train).layer if x.type in ("FeedbackLoss", "SoftmaxWithLoss")]
    found = [layer.bottom[0] for layer in losses if layer.bottom[0] in test.shapes]
    return found[0] if found else None


def _templates(trial: Trial, net: Net, settings: Settings) -> dict[str, Any] | None:
    """(C, C) by similarity, over the validation images on the grid of the scores.

    None without such a blob, or where windows cover the images.
    """
    import torch

    blob = loss_blob(trial.folder / "train.prototxt", net.spec)
    if blob is None or settings.inference is not None:
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
        truth = settings.rules.read(item.label, classes).labels
        labels = _on_grid(truth, settings.crop, tuple(scores.shape[2:]))
        for similarity in sums.values():
            similarity.add(scores, labels)
    return {
        name: [[None if math.isnan(x) else x for x in row] for row in found.means().tolist()]
        for name, found in sums.items()
    }


def _on_grid(labels: Any, crop: tuple[int, int], grid: tuple[int, ...]) -> Any:
    """The labels at the positions of the scores, as Interp shrinks them."""
    padded = np.full(crop, _IGNORED, np.int64)
    padded[: labels.shape[0], : labels.shape[1]] = labels
    rows, columns = (
        np.round(np.linspace(0, side - 1, count)).astype(int)
        for side, count in zip(crop, grid, strict=True)
    )
    return padded[np.ix_(rows, columns)]
