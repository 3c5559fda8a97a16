"""What a search tries: the settings of the feedback losses, their order, and their layers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caffe_port.data.voc import VOCItem
from caffe_port.errors import UsageError
from caffe_port.finetuning.curve import read_json
from caffe_port.finetuning.inputs import Images, Options, RenderedRecipe
from caffe_port.finetuning.variants import BASELINE, Variant
from caffe_port.proto import caffe_pb2, read_net_text
from caffe_port.proto.printer import print_text
from caffe_port.recipes import Recipe
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops.losses import SoftmaxWithLoss

TERMS = {"pull": (1, 0), "pull_push": (1, 1), "push": (0, 1)}
_MOST = 100_000  # combinations of a grid


@dataclass(frozen=True)
class FeedbackSetting:
    """One setting of the feedback losses; see docs/losses.md.

    Attributes:
        weight: the loss_weight of the feedback loss, as a multiple of the softmax loss's.
        ramp_up: the share of the run during which the weight is increased from near 0.
        background: whether class 0 is a class like the others.
        terms: 'pull', 'pull_push' or 'push'.
        margin: of the push; 0 without it.
        template: 'best', 'mean' or 'top-k'.
        k: pixels of a 'top-k' template.
        detach: whether templates are constants; otherwise they are learned too.
        at: 'scores', or 'features': the blob from which the scores are computed.
        similarity: 'cosine' or 'correlation'.
    """

    weight: float = 0.05
    ramp_up: float = 0.0
    background: bool = False
    terms: str = "pull"
    margin: float = 0.0
    template: str = "best"
    k: int = 5
    detach: bool = True
    at: str = "scores"
    similarity: str = "cosine"

    @property
    def effective(self) -> FeedbackSetting:
        """The same setting with options that have no effect at their defaults."""
        margin = 0.0 if self.terms == "pull" else self.margin
        return replace(self, margin=margin, k=self.k if self.template == "top-k" else 5)

    @property
    def name(self) -> str:
        """A name that says everything, usable as a folder's."""
        parts = [self.terms, self.similarity, self.template, f"w{self.weight:g}"]
        parts[2] += f"{self.k}" if self.template == "top-k" else ""
        parts += [f"margin{self.margin:g}"] if self.margin else []
        parts += [f"ramp{self.ramp_up:g}"] if self.ramp_up else []
        parts += ["background"] if self.background else []
        parts += [] if self.detach else ["learned"]
        parts += ["features"] if self.at == "features" else []
        return "-".join(parts)


def _is_number(low: float, high: float) -> Callable[[Any], bool]:
    def check(x: Any) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and low <= x <= high

    return check


def _is_integer(low: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= low


def _is_one_of(*known: str) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, str) and x in known


def _is_flag(x: Any) -> bool:
    return isinstance(x, bool)


_Rule = tuple[str, Callable[[Any], bool]]
_SETTINGS: dict[str, _Rule] = {
    "weight": ("numbers from 1e-6 to 1e6", _is_number(1e-6, 1e6)),
    "ramp_up": ("shares of the run, 0 to 1", _is_number(0, 1)),
    "background": ("true or false", _is_flag),
    "terms": (", ".join(TERMS), _is_one_of(*TERMS)),
    "margin": ("numbers from -1 to 1", _is_number(-1, 1)),
    "template": ("best, mean, top-k", _is_one_of("best", "mean", "top-k")),
    "k": ("whole numbers from 1 on", _is_integer(1)),
    "detach": ("true or false", _is_flag),
    "at": ("scores, features", _is_one_of("scores", "features")),
    "similarity": ("cosine, correlation", _is_one_of("cosine", "correlation")),
}
GRID: dict[str, tuple[Any, ...]] = {
    "weight": (0.05, 0.02, 0.1, 0.2, 0.5), "ramp_up": (0.0, 0.5), "background": (False, True),
    "terms": ("pull", "pull_push", "push"), "margin": (0.0, 0.3, 0.5),
    "template": ("best", "mean", "top-k"), "k": (5,), "detach": (True, False),
    "at": ("scores", "features"), "similarity": ("cosine", "correlation"),
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """The description of a search; a JSON file may give any of these, and the rest is as here.

    Attributes:
        settings: option of FeedbackSetting -> values to try; the first ones are the centre.
        tries: the number of settings to try, at most.
        rungs: shares of a run's steps after which settings are dropped, ascending; the last is 1.
        keep: one of so many settings is kept after each rung.
        selection: images of the training list on which settings are compared: a number from 1
            on, or a share of the list below 1.
        train_images: the number of images to train on; None is all others.
        search_seeds: seeds of the runs that compare settings.
        random_seed: of the drawn images and combinations.
    """

    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: dict(GRID))
    tries: int = 18
    rungs: tuple[float, ...] = (0.25, 0.5, 1.0)
    keep: int = 3
    selection: float = 0.15
    train_images: int | None = None
    search_seeds: tuple[int, ...] = (1,)
    random_seed: int = 1

    @classmethod
    def read(cls, path: Path) -> Search:
        """Reads a JSON file.

        Raises:
            ReadError, FormatError: it is not a JSON object.
            UsageError: an unknown key, or a value that is not as expected.
        """
        values = read_json(path)
        found: dict[str, Any] = {}
        _expect_known(values, [*_KEYS, "settings"], f"{path}: ")
        for name, value in values.items():
            if name == "settings":
                found["settings"] = _grid(value, path)
                continue
            expected, is_right = _KEYS[name]
            if not is_right(value):
                raise UsageError(f"{path}: '{name}' is {json.dumps(value)}; expected {expected}")
            found[name] = tuple(value) if isinstance(value, list) else value
        return cls(**found)

    def first_settings(self, *, features: bool) -> list[FeedbackSetting]:
        """The settings to try, in their order.

        The centre (the first value of each option), each other value by itself with the rest as in
        the centre (a margin with pull and push), then combinations in an order drawn by
        ``random_seed``, up to ``tries``.

        Args:
            features: whether the net has a blob of features.
        Raises:
            UsageError: the grid has more than 100,000 combinations, or only features.
        """
        grid = dict(self.settings)
        if not features:
            grid["at"] = tuple(x for x in grid["at"] if x != "features")
            if not grid["at"]:
                raise UsageError("every setting is at the features, which this net does not have")
        count = math.prod(map(len, grid.values()))
        if count > _MOST:
            raise UsageError(f"the settings have {count} combinations; expected at most {_MOST}")
        centre = FeedbackSetting(**{name: values[0] for name, values in grid.items()})
        found = [centre]
        for name, values in grid.items():
            for value in values[1:]:
                pushes = name == "margin" and "pull_push" in grid["terms"]
                start = replace(centre, terms="pull_push") if pushes else centre
                found.append(replace(start, **{name: value}))
        others = (
            FeedbackSetting(**dict(zip(grid, values, strict=True)))
            for values in itertools.product(*grid.values())
        )
        found += sorted(others, key=lambda one: _drawn(self.random_seed, one.effective.name))
        return list(dict.fromkeys(one.effective for one in found))[: self.tries]

    def kept(self, count: int) -> int:
        """How many of ``count`` settings are kept after a rung."""
        return max(1, math.ceil(count / self.keep))

    def steps(self, last: int) -> list[int]:
        """The steps of the rungs of a run of ``last`` steps.

        Raises:
            UsageError: two rungs have the same number of steps, or one has none.
        """
        found = [round(share * last) for share in self.rungs]
        if found[0] < 1 or sorted(set(found)) != found:
            raise UsageError(
                f"the rungs {list(self.rungs)} of {last} steps are {found}; expected ascending "
                "numbers: give more --steps, or fewer rungs"
            )
        return found


_KEYS: dict[str, _Rule] = {
    "tries": ("a whole number from 1 on", _is_integer(1)),
    "rungs": (
        "a list of ascending shares above 0, the last of them 1",
        lambda x: (
            isinstance(x, list)
            and all(map(_is_number(0, 1), x))
            and x[-1:] == [1]
            and x[0] > 0
            and sorted(set(x)) == x
        ),
    ),
    "keep": ("a whole number from 2 on", _is_integer(2)),
    "selection": (
        "a number of images, or a share below 1",
        lambda x: _is_integer(1)(x) or (_is_number(0, 1)(x) and 0 < x < 1),
    ),
    "train_images": (
        "a whole number from 1 on, or null",
        lambda x: x is None or _is_integer(1)(x),
    ),
    "search_seeds": (
        "a list of different whole numbers from 1 on",
        lambda x: (
            isinstance(x, list)
            and bool(x)
            and all(map(_is_integer(1), x))
            and len(set(x)) == len(x)
        ),
    ),
    "random_seed": ("a whole number from 0 on", _is_integer(0)),
}


def _expect_known(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise UsageError(f"{where}unknown key '{name}'; expected {', '.join(known)}")


def _grid(values: Any, path: Path) -> dict[str, tuple[Any, ...]]:
    """The values of each option; an option that is not named has the centre's value only."""
    where = f"{path}: settings: "
    if not isinstance(values, dict):
        raise UsageError(f"{where}expected an object: option -> list of values")
    _expect_known(values, list(_SETTINGS), where)
    found = {name: GRID[name][:1] for name in _SETTINGS}
    for name, given in values.items():
        expected, is_right = _SETTINGS[name]
        if not isinstance(given, list) or not given or not all(map(is_right, given)):
            raise UsageError(
                f"{where}'{name}' is {json.dumps(given)}; expected a list of {expected}"
            )
        found[name] = tuple(given)
    return found


def _drawn(seed: int, what: str) -> str:
    """Sorts as if drawn with a seed; the same with every version of Python."""
    return hashlib.sha256(f"{seed} {what}".encode()).hexdigest()


def split(images: Images, search: Search) -> tuple[Images, Images]:
    """The images for the selection, and those for the final comparison; both train on the same.

    Raises:
        UsageError: the training list has too few images.
    """
    order = sorted(images.train, key=lambda item: _drawn(search.random_seed, item.id))
    share, total = search.selection, len(order)
    count = round(share) if share >= 1 else max(1, round(share * total))
    left = total - count
    wanted = left if search.train_images is None else search.train_images
    if left < 1 or wanted > left:
        raise UsageError(
            f"the training list has {total} images, of which {count} are for the selection; "
            f"{max(1, wanted)} to train on are wanted: give a longer list, or smaller numbers for "
            "'selection' and 'train_images'"
        )
    # in the order of the list, so that the draw only selects
    train = _in_order(images.train, order[count : count + wanted])
    chosen = _in_order(images.train, order[:count])
    return replace(images, train=train, val=chosen), replace(images, train=train)


def _in_order(items: Sequence[VOCItem], some: Sequence[VOCItem]) -> tuple[VOCItem, ...]:
    wanted = {item.id for item in some}
    return tuple(item for item in items if item.id in wanted)


class SettingLayers:
    """Adds the feedback losses of a setting to a recipe's train net.

    Args:
        variant: the recipe; its own FeedbackLoss layers are removed.
        images: its data.
        options: its length and variables.
        folder: for its texts.
    Attributes:
        baseline: the recipe with the softmax loss alone.
        last: the steps of a run.
        features: the blob of features of each softmax loss; empty where the net has none.
    Raises:
        UsageError: the train net has no SoftmaxWithLoss.
        CaffePortError: the recipe is malformed.
    """

    def __init__(self, variant: Variant, images: Images, options: Options, folder: Path) -> None:
        rendered = RenderedRecipe(variant, images, options)
        for layer in [x for x in rendered.train.layer if x.type == "FeedbackLoss"]:
            rendered.train.layer.remove(layer)
        rendered.write(folder, 0)
        self._net, self.last = rendered.train, int(rendered.solver.max_iter)
        text = read_net_text(folder / "train.prototxt")
        spec = NetSpec.build(text.message, phase="TRAIN", dialect=text.dialect)
        self._losses = [x for x in spec.layers if isinstance(x.op, SoftmaxWithLoss)]
        if not self._losses:
            raise UsageError(f"{variant.net}/{variant.name}: the train net has no SoftmaxWithLoss")
        splits = [x for x in spec.layers if x.type == "Split"]
        self._unsplit = {top: layer.bottoms[0] for layer in splits for top in layer.tops}
        self.features = self._find_features(spec)
        # with the solver's own text: RenderedRecipe scales its intervals to the length again
        recipe = Recipe(BASELINE, variant.recipe.solver, print_text(self._net), variant.recipe.test)
        self._policy = variant.name.partition("_")[0]
        self.baseline = Variant(f"{self._policy}_{BASELINE}", variant.net, recipe)

    def _find_features(self, spec: NetSpec) -> list[str]:
        found = []
        for scores, _ in map(self._bottoms, self._losses):
            made = [x for x in spec.layers if scores in x.tops and scores not in x.bottoms]
            maker = made[-1]
            if maker.type not in ("Convolution", "InnerProduct"):
                return []
            blob = self._unsplit.get(maker.bottoms[0], maker.bottoms[0])
            # the labels are on the grid of the scores
            if spec.shapes[blob][2:] != spec.shapes[scores][2:]:
                return []
            found.append(blob)
        return found

    def _bottoms(self, loss: LayerSpec) -> tuple[str, str]:
        """The blobs of scores and labels, as the prototxt names them."""
        scores, labels = (self._unsplit.get(blob, blob) for blob in loss.bottoms)
        return scores, labels

    def text(self, setting: FeedbackSetting) -> str:
        """The layers as prototxt."""
        net = caffe_pb2.NetParameter()
        for i, loss in enumerate(self._losses):
            self._add(net, loss, setting, i)
        return print_text(net)

    def _add(
        self, net: caffe_pb2.NetParameter, loss: LayerSpec, setting: FeedbackSetting, i: int
    ) -> None:
        suffix = "" if len(self._losses) == 1 else f"_{i + 1}"
        scores, labels = self._bottoms(loss)
        at_features = setting.at == "features"
        layer = net.layer.add(name=f"feedback{suffix}", type="FeedbackLoss")
        layer.bottom.extend([self.features[i], labels, scores] if at_features else [scores, labels])
        layer.top.append(layer.name)
        layer.include.add(phase=caffe_pb2.TRAIN)
        layer.loss_weight.append(setting.weight * loss.loss_weights[0])
        param = layer.feedback_loss_param
        kinds = caffe_pb2.FeedbackLossParameter
        param.similarity = kinds.Similarity.Value(setting.similarity.upper())  # type: ignore[assignment]
        param.template = kinds.Template.Value(  # type: ignore[assignment]
            setting.template.upper().replace("-", "_")
        )
        param.k, param.detach, param.margin = setting.k, setting.detach, setting.margin
        param.include_background = setting.background
        param.pull_weight, param.push_weight = TERMS[setting.terms]
        param.ignore_label.extend(loss.options(SoftmaxWithLoss).ignore_labels)
        param.ramp_up = round(setting.ramp_up * self.last)

    def variant(self, setting: FeedbackSetting) -> Variant:
        """The recipe with a setting, named so that its baseline is found."""
        recipe = self.baseline.recipe
        recipe = replace(recipe, name=setting.name, train=f"{recipe.train}\n{self.text(setting)}")
        return Variant(f"{self._policy}_{setting.name}", self.baseline.net, recipe)


def read_search(value: str | os.PathLike[str]) -> Search:
    """'default', or a JSON file of ``Search``."""
    return Search() if value == "default" else Search.read(Path(value))
