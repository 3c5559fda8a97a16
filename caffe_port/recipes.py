"""Recipes: folders with a solver and the nets that it trains and tests, as in prototxt/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.proto import read_file

# inside the package in a wheel, next to it in a checkout
_PLACES = [Path(__file__).resolve().parents[up] / "prototxt" for up in (0, 1)]
ZOO = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


@dataclass(frozen=True)
class Recipe:
    """The texts of a recipe, with unreplaced variables.

    Attributes:
        name: its folder's name.
        solver: the solver; the nets that it names are the two below, wherever they are written.
        train: the training net, feedback losses included.
        test: the net that uses the weights.
    """

    name: str
    solver: str
    train: str
    test: str


def recipe_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a recipe: a path, or 'NET/RECIPE' in prototxt/.

    Raises:
        UsageError: there is neither.
    """
    path = Path(name)
    if path.is_dir():
        return path
    net, _, recipe = os.fspath(name).partition("/")
    known = recipe_names()
    if f"{net}/{recipe}" in known:
        return ZOO / net / "recipes" / recipe
    raise UsageError(
        f"no recipe '{os.fspath(name)}': expected a folder with a solver.prototxt, or one of "
        f"{', '.join(known)}"
    )


def recipe_names() -> list[str]:
    """'NET/RECIPE' of every recipe in prototxt/."""
    found = ZOO.glob("*/recipes/*/solver.prototxt")
    return sorted(f"{path.parts[-4]}/{path.parts[-2]}" for path in found)


def read_recipe(name: str | os.PathLike[str]) -> Recipe:
    """Reads a recipe.

    Its folder has `solver.prototxt`. `train.prototxt` and `test.prototxt` are next to it or, if
    several recipes share them, two folders above: `NET/recipes/RECIPE/` uses those in `NET/`. A
    `feedback.prototxt` next to the solver is appended to the train net.

    Args:
        name: see recipe_folder.
    Raises:
        UsageError: there is no such recipe, or a file of it is missing.
    Examples:
        >>> from caffe_port.recipes import read_recipe
        >>> read_recipe("deeplab_v2_vgg16_largefov/poly_softmax").name
        'poly_softmax'
    """
    folder = recipe_folder(name)
    texts = {
        kind: read_file(_file(folder, f"{kind}.prototxt")) for kind in ("solver", "train", "test")
    }
    added = folder / "feedback.prototxt"
    if added.is_file():
        texts["train"] += "\n" + read_file(added)
    return Recipe(folder.resolve().name, **texts)


def _file(folder: Path, name: str) -> Path:
    """A file of a recipe, or of its net."""
    places = [folder / name]
    if name != "solver.prototxt" and folder.resolve().parent.name == "recipes":
        places.append(folder.resolve().parent.parent / name)
    for place in places:
        if place.is_file():
            return place
    wanted = " or ".join(str(place) for place in places)
    raise UsageError(f"recipe '{folder}' has no {name}; expected {wanted}")
