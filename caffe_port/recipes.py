"""Recipes: folders with a solver and the nets it trains and tests, as prototxt/ has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.proto import read_file

# in a wheel inside the package, in a checkout beside it
_PLACES = [Path(__file__).resolve().parents[up] / "prototxt" for up in (0, 1)]
ZOO = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


@dataclass(frozen=True)
class Recipe:
    """The texts of a recipe, their variables open.

    Attributes:
        name: its folder's name.
        solver: a solver; the nets that it names are those below, wherever they are put.
        train: the net it trains, feedback losses included.
        test: the net that the weights are used in.
    """

    name: str
    solver: str
    train: str
    test: str


def recipe_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a recipe: a path, or 'NET/RECIPE' of those in prototxt/.

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

    Its folder has `solver.prototxt`. `train.prototxt` and `test.prototxt` lie beside it or, where
    several recipes share them, two folders above: `NET/recipes/RECIPE/` takes what it lacks from
    `NET/`. A `feedback.prototxt` beside the solver is appended to the train net.

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
    """A file of a recipe, or of the net that it is a recipe of."""
    places = [folder / name]
    if name != "solver.prototxt" and folder.resolve().parent.name == "recipes":
        places.append(folder.resolve().parent.parent / name)
    for place in places:
        if place.is_file():
            return place
    wanted = " or ".join(str(place) for place in places)
    raise UsageError(f"recipe '{folder}' has no {name}; expected {wanted}")
