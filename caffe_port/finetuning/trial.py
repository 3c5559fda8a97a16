"""What a run of an experiment is: a recipe, a seed, and what all runs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caffe_port.crf import CRFParameters
from caffe_port.finetuning.composed import Changes
from caffe_port.finetuning.data import Images
from caffe_port.finetuning.variants import Variant


@dataclass(frozen=True)
class Setting:
    """What all runs of an experiment share; it is pickled to the processes that run them.

    Attributes:
        images: what is learned from and judged on.
        init: the weights every run starts from.
        changes: of the recipes.
        crf: refines the scores; no figures after the CRF without it.
        device: 'cpu', 'cuda' or 'cuda:1'.
        threads: of torch, in each process; all when absent.
    """

    images: Images
    init: Path
    changes: Changes
    crf: CRFParameters | None
    device: str = "cpu"
    threads: int | None = None


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
        tell: takes what is being done, and which part of it is done, 0 to 1.
    """

    stopped: Callable[[], bool]
    tell: Callable[[str, float], None]


class StoppedError(Exception):
    """The run was asked to end; what it did is kept."""
