"""Which recipes an experiment trains, and which of them each is compared with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.recipes import ZOO, Recipe, read_recipe, recipe_folder

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
    """The recipes that a name or a folder stands for, baselines first.

    Args:
        recipe: a net (a folder with `recipes/`, or its name in prototxt/), which stands for all
            its recipes; or one recipe, which stands for itself and the baseline beside it.
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


def baseline_of(name: str, names: Sequence[str]) -> str | None:
    """What a variant is compared with: the softmax loss alone under the same policy.

    That of the policy poly itself is compared with the one of step, where both are there.
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
    beside = folder.parent / f"{folder.name.partition('_')[0]}_{BASELINE}"
    is_apart = beside != folder and (beside / "solver.prototxt").is_file()
    return [beside, folder] if is_apart else [folder]


def _net(folder: Path) -> str:
    return folder.parent.parent.name if folder.parent.name == "recipes" else folder.name
