"""The variants of a recipe that an experiment trains, and similarities of class templates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError
from caffe_port.recipes import ZOO, Recipe, read_recipe, recipe_folder

if TYPE_CHECKING:
    from torch import Tensor


Floats = npt.NDArray[np.float64]


class Similarities:
    """Mean similarities of the pixels of classes to the templates of classes, over images.

    For image n and classes c and d in it: the mean over pixels p labelled d of sim(t(n, c), F_p),
    with t the best template (docs/losses.md); then the mean over images. The pull term raises the
    diagonal, the push term lowers the rest.

    Args:
        classes: C.
        similarity: 'cosine' or 'correlation'.
    """

    def __init__(self, classes: int, similarity: str) -> None:
        from caffe_port.losses.feedback import FeedbackOptions

        self._options = FeedbackOptions(similarity=similarity)
        self._sums = np.zeros((classes, classes))
        self._images = np.zeros((classes, classes))

    def add(self, scores: Tensor, labels: npt.NDArray[np.integer[Any]]) -> None:
        """Adds one image.

        Args:
            scores: (1, C, h, w), which are the features too.
            labels: (h, w); those outside of 0 to C - 1 do not count.
        """
        import torch

        from caffe_port.losses.feedback import choose, unit

        classes = scores.shape[1]
        flat = scores.double().flatten(2)
        label = torch.from_numpy(labels.astype(np.int64)).reshape(1, -1)
        counted = (label >= 0) & (label < classes)
        label = label.where(counted, 0)
        weight, counts = choose(flat, label, counted, self._options)
        members = torch.zeros_like(flat).scatter_(1, label[:, None], counted[:, None].double())
        templates = (members * weight[:, None]) @ flat.transpose(1, 2)
        alike = unit(templates, 2, self._options) @ unit(flat, 1, self._options)
        means = (alike @ members.transpose(1, 2))[0] / counts[0].clamp(min=1)
        present = (counts[0] > 0).double()
        both = present[:, None] * present[None, :]
        self._sums += (means * both).numpy()
        self._images += both.numpy()

    def means(self) -> Floats:
        """(C, C): rows are templates, columns the pixels' classes; NaN for classes of no image."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self._sums / self._images, np.float64)


BASELINE = "softmax"


@dataclass(frozen=True)
class Variant:
    """One recipe of an experiment.

    Attributes:
        name: of its folder, such as 'poly_pull_cosine'.
        net: of the folder of its net, such as 'deeplab_v1_largefov'.
        recipe: its texts.
    """

    name: str
    net: str
    recipe: Recipe


def find_variants(recipe: str | os.PathLike[str], only: Sequence[str] = ()) -> list[Variant]:
    """Finds the recipes of a name or a folder, baselines first.

    Args:
        recipe: a net (a folder with `recipes/`, or its name in prototxt/), for all its recipes; or
            one recipe, for itself and its baseline.
        only: names of recipes to keep; all where empty.
    Raises:
        UsageError: there is no such recipe.
    """
    folders = _folders(recipe)
    known = {folder.name: folder for folder in folders}
    for name in only:
        if name not in known:
            raise UsageError(f"{recipe} has no recipe '{name}'; there are {', '.join(known)}")
    kept = sorted(only or known, key=lambda name: (not name.endswith(BASELINE), name))
    return [Variant(name, _net(known[name]), read_recipe(known[name])) for name in kept]


def single_variant(variants: Sequence[Variant], recipe: str | os.PathLike[str]) -> Variant:
    """The one recipe of a search: the baseline of those found, which all have its policy.

    Raises:
        UsageError: they have several policies.
    """
    policies = {one.name.partition("_")[0] for one in variants}
    if len(policies) > 1:
        names = [one.name for one in variants if one.name.endswith(BASELINE)]
        raise UsageError(
            f"{recipe} has recipes of several policies, and a search trains one: choose it by "
            f"--variant, such as --variant {(names or sorted(one.name for one in variants))[0]}"
        )
    return variants[0]


def baseline_of(name: str, names: Sequence[str]) -> str | None:
    """The baseline of a variant: the softmax loss alone with the same policy.

    That of poly has the one of step as its baseline, if there are both.
    """
    policy = name.partition("_")[0]
    wanted = f"{policy}_{BASELINE}"
    if name == wanted:
        wanted = f"step_{BASELINE}"
    return wanted if wanted in names and wanted != name else None


def _folders(recipe: str | os.PathLike[str]) -> list[Path]:
    for place in (Path(recipe), ZOO / recipe):
        found = sorted(path.parent.resolve() for path in place.glob("recipes/*/solver.prototxt"))
        if found:
            return found
        if (place / "solver.prototxt").is_file() and place.parent == ZOO:
            return [place]  # a net with one recipe, its own
    folder = recipe_folder(recipe).resolve()
    baseline = folder.parent / f"{folder.name.partition('_')[0]}_{BASELINE}"
    is_other = baseline != folder and (baseline / "solver.prototxt").is_file()
    return [baseline, folder] if is_other else [folder]


def _net(folder: Path) -> str:
    return folder.parent.parent.name if folder.parent.name == "recipes" else folder.name
