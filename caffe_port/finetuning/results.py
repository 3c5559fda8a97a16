"""The figures of an experiment, collected from its runs into one JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caffe_port.errors import FormatError, UsageError
from caffe_port.evaluation.figures import class_names, versions
from caffe_port.finetuning.curve import Curve, Snapshots, read_results, write_results
from caffe_port.finetuning.inputs import RenderedRecipe
from caffe_port.finetuning.running import finished
from caffe_port.finetuning.scoring import Trial

_FORMAT = "caffe_port experiment 1"
_POINTS = 60  # of a curve
WHEN = ("before", "after")
Matrix = list[list[float | None]]


@dataclass
class Score:
    """Figures of weights on the validation images, from 0 to 1.

    Attributes:
        before, after: mean IoU before and after the CRF, or None.
        iou_before, iou_after: per class.
        lost: per class, the share of its pixels that are labelled 0 before the CRF.
        templates: by similarity (C, C), see ``templates``.
        final_loss: the last smoothed loss of the training.
        seconds: the duration of the training.
    """

    before: float | None = None
    after: float | None = None
    iou_before: list[float | None] = field(default_factory=list)
    iou_after: list[float | None] = field(default_factory=list)
    lost: list[float | None] = field(default_factory=list)
    templates: dict[str, Matrix] = field(default_factory=dict)
    final_loss: float | None = None
    seconds: float | None = None

    def mean_iou(self, when: str) -> float | None:
        """``before`` or ``after``."""
        return self.before if when == "before" else self.after

    def iou(self, when: str) -> list[float | None]:
        """``iou_before`` or ``iou_after``."""
        return self.iou_before if when == "before" else self.iou_after


@dataclass
class Results:
    """All contents of a report.

    Attributes:
        net: the recipes' folder.
        net_name: the name in the net's text.
        data: 'folder', 'train' and 'val' (numbers of images).
        init: the name of the weights that every run started from.
        start: their own score, if they have all layers.
        names: the names of the classes.
        scores: by variant and seed.
        curves: by variant and output, (iteration, mean over the seeds).
        planned: the requested seeds.
        steps: updates of a run.
        dropout: whether the nets had Dropout.
        from_fillers: parameters that the weights lack.
        versions: those of the programs.
    """

    net: str
    net_name: str
    data: dict[str, Any]
    init: str
    names: list[str]
    planned: list[int]
    start: Score | None = None
    scores: dict[str, dict[int, Score]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    steps: int = 0
    dropout: bool = True
    from_fillers: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def variants(self) -> list[str]:
        """The variants, baselines first."""
        return list(self.scores)

    def mean_ious(self, variant: str, when: str) -> dict[int, float]:
        """Seed -> mean IoU in per cent, for those known."""
        found = {seed: score.mean_iou(when) for seed, score in self.scores[variant].items()}
        return {seed: 100 * x for seed, x in sorted(found.items()) if x is not None}

    def class_ious(self, variant: str, when: str, label: int) -> dict[int, float]:
        """Seed -> IoU of a class in per cent, for those known."""
        found = {}
        for seed, score in self.scores[variant].items():
            values = score.iou(when)
            value = values[label] if label < len(values) else None
            if value is not None:
                found[seed] = 100 * value
        return found

    def write(self, path: Path) -> None:
        """Writes everything as JSON."""
        write_results(path, _FORMAT, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Results:
        """Reads a file of ``write``.

        Raises:
            FormatError: it is another file.
        """
        values = read_results(path, _FORMAT)
        try:
            return cls.of(values)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise FormatError(f"not the results of an experiment: {error}", path=path) from error

    @classmethod
    def of(cls, values: dict[str, Any]) -> Results:
        """The results whose ``asdict`` went through JSON.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: they are something else.
        """
        start, by_variant = values.pop("start"), values.pop("scores")
        found = cls(**values)
        found.start = None if start is None else Score(**start)
        found.scores = {
            str(variant): {int(seed): Score(**score) for seed, score in by_seed.items()}
            for variant, by_seed in by_variant.items()
        }
        return found


def gather(work: Sequence[Trial], names: Sequence[str] | None = None) -> Results:
    """Collects the figures of the finished runs.

    Args:
        work: all runs.
        names: of the classes; numbers (VOC's for 21) when absent.
    Raises:
        UsageError: there are more or fewer names than classes.
    """
    setting = work[0].setting
    images = setting.images
    result = Results(
        net=work[0].variant.net,
        net_name=RenderedRecipe(work[0].variant, images, setting.options).train.name,
        data={"folder": images.root.name, "train": len(images.train), "val": len(images.val),
              "first": images.val[0].id},
        init=setting.init.name,
        names=list(names or ()),
        planned=sorted({trial.seed for trial in work if trial.seed is not None}),
        dropout=setting.options.dropout,
        versions=dict(versions()),
    )  # fmt: skip
    curves: dict[str, list[Curve]] = {}
    for trial in work:
        if trial.seed is not None:
            result.scores.setdefault(trial.variant.name, {})
        found = finished(trial)
        if found is not None:
            _add(result, trial, found, curves)
    result.curves = {name: _mean_curves(each) for name, each in curves.items()}
    return result


def _add(
    result: Results, trial: Trial, found: dict[str, Any], curves: dict[str, list[Curve]]
) -> None:
    score = _score(found)
    if trial.seed is None:
        result.start = score
    else:
        result.scores[trial.variant.name][trial.seed] = score
        result.steps, result.from_fillers = found["steps"], found["from_fillers"]
        path = Snapshots(trial.folder / "snapshots").curve(found["steps"])
        curves.setdefault(trial.variant.name, []).append(Curve.read(path))
    classes = len(score.iou_before)
    result.names = result.names or class_names(classes)
    if classes and len(result.names) != classes:
        raise UsageError(f"{len(result.names)} class names for a network of {classes} classes")


def _score(found: Mapping[str, Any]) -> Score:
    score = Score(seconds=found["seconds"]["training"])
    score.final_loss = _short(found.get("final_loss"), 6)
    if found.get("before"):
        score.before, score.iou_before = _rounded(found["before"])
        score.lost = [_short(row[0] / sum(row), 5) if any(row) else None
                      for row in found["before"]["confusion"]]  # fmt: skip
    if found.get("after"):
        score.after, score.iou_after = _rounded(found["after"])
    for name, matrix in (found.get("templates") or {}).items():
        score.templates[name] = [[_short(x, 4) for x in row] for row in matrix]
    return score


def _rounded(figures: Mapping[str, Any]) -> tuple[float, list[float | None]]:
    return round(figures["mean_iou"], 7), [_short(x, 6) for x in figures["iou"]]


def _short(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _mean_curves(curves: Sequence[Curve]) -> dict[str, list[list[float]]]:
    """Means over the seeds and over rows of iterations, by output; 'total' is the smoothed loss."""
    many = [{"total": curve.loss, **curve.outputs} for curve in curves]
    return {name: _thinned([dict(one[name]) for one in many if name in one]) for name in many[0]}


def _thinned(curves: Sequence[Mapping[int, float]]) -> list[list[float]]:
    shared = sorted(set(curves[0]).intersection(*curves[1:]))
    run = max(1, math.ceil(len(shared) / _POINTS))
    points = []
    for i in range(0, len(shared), run):
        part = shared[i : i + run]
        values = [curve[x] for curve in curves for x in part]
        if all(map(math.isfinite, values)):
            points.append([sum(part) / len(part), round(sum(values) / len(values), 5)])
    return points
