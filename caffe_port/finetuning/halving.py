"""The runs of a search: successive halving on the selection images, then the final comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from caffe_port.errors import FormatError, UsageError
from caffe_port.files import write_text
from caffe_port.finetuning.curve import read_results, write_results
from caffe_port.finetuning.experiment import Progress, make_trials, run_all
from caffe_port.finetuning.inputs import Images
from caffe_port.finetuning.results import Results, gather
from caffe_port.finetuning.running import finished
from caffe_port.finetuning.scoring import Setting, Trial
from caffe_port.finetuning.search import GRID, Search, SettingLayers, split
from caffe_port.finetuning.variants import Variant

FORMAT = "caffe_port search 1"


@dataclass
class SearchResults:
    """All contents of a search's report.

    Attributes:
        name: the name of its folder.
        settings: name -> the setting, in the order in which they were tried.
        steps: those of the rungs.
        scores: name -> steps -> mean IoU before the CRF on the selection images, the mean over
            the search's seeds; None where a run diverged. Absent where it is not known yet.
        baseline: the same of the softmax loss alone.
        kept: steps -> the names of the settings that were kept.
        chosen: the best setting at the end, once it is known.
        images: the numbers of images: 'training', 'selection', 'final'.
        search_seeds, seeds: of the search, and of the final comparison.
        search: the description.
        remarks: on what was left out.
        final: the final comparison: softmax alone and the chosen setting.
    """

    name: str
    settings: dict[str, dict[str, Any]]
    steps: list[int]
    images: dict[str, int]
    search_seeds: list[int]
    seeds: list[int]
    search: dict[str, Any]
    scores: dict[str, dict[int, float | None]] = field(default_factory=dict)
    baseline: dict[int, float | None] = field(default_factory=dict)
    kept: dict[int, list[str]] = field(default_factory=dict)
    chosen: str | None = None
    remarks: list[str] = field(default_factory=list)
    final: Results | None = None

    @property
    def tried(self) -> int:
        """The number of settings with a score."""
        return len(self.scores)

    def gain(self, name: str, steps: int) -> float | None:
        """The difference to the softmax loss alone on the selection images, in points."""
        score, baseline = self.scores.get(name, {}).get(steps), self.baseline.get(steps)
        return None if score is None or baseline is None else score - baseline

    def write(self, path: Path) -> None:
        """Writes everything as JSON, without durations: the same search gives the same bytes."""
        write_results(path, FORMAT, asdict(self))

    @classmethod
    def read(cls, path: Path) -> SearchResults:
        """Reads a file of ``write``.

        Raises:
            FormatError: it is another file.
        """
        values = read_results(path, FORMAT)
        try:
            final = values.pop("final")
            found = cls(**values)
            found.scores = {name: _by_steps(each) for name, each in found.scores.items()}
            found.baseline, found.kept = _by_steps(found.baseline), _by_steps(found.kept)
            found.final = None if final is None else Results.of(final)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise FormatError(f"not the results of a search: {error}", path=path) from error
        return found


def _by_steps(values: dict[Any, Any]) -> dict[int, Any]:
    return {int(steps): value for steps, value in values.items()}


class Halving:
    """A search: which runs it needs next, and what is known so far.

    Args:
        setting: the images (all of the training list), initial weights and options; its CRF is
            that of the final comparison.
        variant: the recipe; its own feedback losses are left out.
        search: the description.
        seeds: how many seeds the final comparison has; they follow those of the search.
        out: its folder.
        names: of the classes.
    Raises:
        UsageError: too few images, or a grid that the net cannot be used with.
        CaffePortError: the recipe is malformed.
    """

    def __init__(
        self,
        setting: Setting,
        variant: Variant,
        search: Search,
        seeds: int,
        out: Path,
        names: Sequence[str] | None = None,
    ) -> None:
        self._search, self._out, self._names = search, out, names
        self._select, self._final = split(setting.images, search)
        self._setting = setting
        self._layers = SettingLayers(variant, self._select, setting.options, out / "recipe")
        has_features = bool(self._layers.features)
        if not has_features and search.settings != GRID and "features" in search.settings["at"]:
            raise UsageError(
                "'at' has 'features', but the scores of this net are not computed from one blob on "
                "their grid by a Convolution: remove 'features' from the settings of --search"
            )
        self._steps = search.steps(self._layers.last)
        tried = search.first_settings(features=has_features)
        self._tried = {one.name: one for one in tried}
        first = max(search.search_seeds) + 1
        self._seeds = list(range(first, first + seeds))
        self._remarks = [] if has_features else ["The net has no blob of features: not tried."]

    @property
    def runs(self) -> int:
        """How many times a run is trained further or started, in all."""
        count, total = len(self._tried), 0
        for _ in self._steps:
            total += (count + 1) * len(self._search.search_seeds)
            count = self._search.kept(count)
        return total + 1 + 2 * len(self._seeds)

    def run(self, progress: Progress, jobs: int = 1) -> None:
        """Makes all runs that are not finished.

        Raises:
            KeyboardInterrupt: a signal came; the same call resumes.
            CaffePortError: a run cannot be made.
        """
        done = 0
        for steps in self._steps:
            work = self._rung(steps, [None, *self._entrants(self.results(), steps)])
            run_all(work, _Part(progress, done), jobs)
            done += len(work)
        run_all(self._comparison(self.results().chosen), _Part(progress, done), jobs)

    def results(self) -> SearchResults:
        """What is known so far."""
        found = SearchResults(
            name=self._out.name,
            settings={name: asdict(one) for name, one in self._tried.items()},
            steps=self._steps,
            images=_counts(self._select, self._final),
            search_seeds=list(self._search.search_seeds),
            seeds=self._seeds,
            search=asdict(self._search),
            remarks=list(self._remarks),
        )
        for steps in self._steps:
            if not self._add_rung(found, steps):
                return found
        ranked = found.kept[self._steps[-1]]
        if ranked:
            found.chosen = ranked[0]
            found.final = gather(self._comparison(found.chosen), self._names)
            for score in _all_scores(found.final):
                score.seconds = None  # the only figures that differ from run to run
        return found

    def _add_rung(self, found: SearchResults, steps: int) -> bool:
        """Adds the scores of a rung; whether all are known, and so who is kept."""
        entrants, complete = self._entrants(found, steps), True
        for name in [None, *entrants]:
            results = [finished(trial) for trial in self._rung(steps, [name])]
            known = [one for one in results if one is not None]
            if len(known) < len(results):
                complete = False
                continue
            values = [one.get("before") for one in known]
            score = None
            if all(values):
                score = round(100 * fmean(one["mean_iou"] for one in values if one), 4)
            if name is None:
                found.baseline[steps] = score
            else:
                found.scores.setdefault(name, {})[steps] = score
        if complete:
            found.kept[steps] = self._best(found, steps, entrants)
        return complete

    def _best(self, found: SearchResults, steps: int, entrants: Sequence[str]) -> list[str]:
        """Those that are kept, best first; on equal scores the one tried earlier is first."""
        scores = {name: found.scores[name][steps] for name in entrants}
        known = {name: score for name, score in scores.items() if score is not None}
        ranked = sorted(known, key=lambda name: -known[name])
        count = 1 if steps == self._steps[-1] else self._search.kept(len(entrants))
        return ranked[:count]

    def _entrants(self, found: SearchResults, steps: int) -> list[str]:
        """The settings that are trained to ``steps``, in the order of the search."""
        at = self._steps.index(steps)
        kept = list(self._tried) if at == 0 else found.kept[self._steps[at - 1]]
        return [name for name in self._tried if name in kept]

    def _rung(self, steps: int, names: Sequence[str | None]) -> list[Trial]:
        """The runs of settings up to some steps; None is the softmax loss alone."""
        setting = replace(self._setting, images=self._select, crf=None)
        return [
            Trial(setting, variant, seed, self._folder(variant, seed), steps)
            for variant in map(self._variant, names)
            for seed in self._search.search_seeds
        ]

    def _folder(self, variant: Variant, seed: int) -> Path:
        return self._out / "search" / variant.name / f"seed_{seed}"

    def _variant(self, name: str | None) -> Variant:
        return self._layers.baseline if name is None else self._layers.variant(self._tried[name])

    def _comparison(self, chosen: str | None) -> list[Trial]:
        """The runs of the final comparison."""
        if chosen is None:
            return []
        setting = replace(self._setting, images=self._final)
        both = [self._variant(None), self._variant(chosen)]
        return make_trials(setting, both, self._seeds, self._out / "final")

    def write_chosen(self, found: SearchResults) -> Path | None:
        """Writes the layers of the chosen setting, to be appended to a train net."""
        if found.chosen is None:
            return None
        path = self._out / "chosen" / "feedback.prototxt"
        write_text(path, self._layers.text(self._tried[found.chosen]))
        return path


class _Part:
    """The progress of some of the runs."""

    def __init__(self, progress: Progress, first: int) -> None:
        self._progress, self._first = progress, first

    def update(self, run: int, what: str, part: float) -> None:
        self._progress.update(self._first + run, what, part)

    def done(self, run: int) -> None:
        self._progress.done(self._first + run)


def _counts(select: Images, final: Images) -> dict[str, int]:
    return {"training": len(select.train), "selection": len(select.val), "final": len(final.val)}


def _all_scores(found: Results) -> list[Any]:
    scores = [score for by_seed in found.scores.values() for score in by_seed.values()]
    return scores if found.start is None else [found.start, *scores]
