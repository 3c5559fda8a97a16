"""Writes model folders, and uploads them by huggingface_hub's ``ModelHubMixin``.

``Net`` does not inherit from the mixin: every ``import caffe_port`` would then load the package,
and its own ``save_pretrained`` and ``from_pretrained`` read config.json without bounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_port.errors import UsageError
from caffe_port.files import write_text
from caffe_port.hub.card import card_text
from caffe_port.hub.known import completed
from caffe_port.hub.parity import read_parity
from caffe_port.hub.repositories import REPOSITORY, hub_errors, library
from caffe_port.model_folder import CARD, CONFIG, FILES, PROTOTXT, WEIGHTS, ModelFolder, config_text
from caffe_port.parity.verify import digest
from caffe_port.stalls import Waiting
from caffe_port.weights import write_weights

if TYPE_CHECKING:
    from caffe_port.model_info import ModelInfo
    from caffe_port.net import Net

    PathLike = str | os.PathLike[str]


def save_pretrained(
    net: Net, folder: PathLike, *, parity: PathLike | None = None, **known: Any
) -> None:
    """Writes a model folder: see ``Net.save_pretrained``."""
    _write(net, Path(folder), *_described(net, parity, known))


def _write(net: Net, target: Path, info: ModelInfo, figures: dict[str, Any] | None) -> None:
    spec = net.spec
    more: dict[str, Any] = {"name": spec.name} | ({"parity": figures} if figures else {})
    config = config_text(target, info, spec.settings(), more)
    with Waiting(target):
        _expect_own(target)
        # written last again: a folder without it is not read as a model
        (target / CONFIG).unlink(missing_ok=True)
    # without the prototxt, which is stored once, next to the weights
    write_weights(target / WEIGHTS, net.stored_layers(), name=spec.name)
    write_text(target / PROTOTXT, spec.prototxt)
    write_text(target / CARD, card_text(net, info, figures))
    write_text(target / CONFIG, config)


def push_to_hub(
    net: Net, repo_id: str, *, parity: PathLike | None, known: Mapping[str, Any], **options: Any
) -> str:
    """Uploads a model folder: see ``Net.push_to_hub``."""
    if not REPOSITORY.fullmatch(repo_id):
        raise UsageError(f"'{repo_id}' is not a repository of the form OWNER/NAME")
    # wrong values are refused before the repository is created
    info, figures = _described(net, parity, known)
    uploader = _uploader(lambda folder: _write(net, folder, info, figures))
    with hub_errors(repo_id):
        return str(uploader.push_to_hub(repo_id, **options))


def _described(
    net: Net, parity: PathLike | None, known: Mapping[str, Any]
) -> tuple[ModelInfo, dict[str, Any] | None]:
    """What is known of the model, and the figures of its comparison with Caffe."""
    info = completed(net, known)
    return info, None if parity is None else read_parity(parity, net.spec.name, digest(net))


def _expect_own(folder: Path) -> None:
    """Refuses a folder whose README.md or other files are not of a model folder."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected a folder")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    shown = sorted(name for name in names if not name.startswith("."))
    if CONFIG in names:
        ModelFolder(folder)  # another program's config.json is refused
    elif shown and not (WEIGHTS in names and {*shown} <= {*FILES, CARD}):  # an interrupted one
        words = ", ".join(shown[:3])
        raise UsageError(f"{folder} holds other files ({words}); choose a new or empty folder")


def _uploader(save: Callable[[Path], None]) -> Any:
    """huggingface_hub's mixin, with a model that ``save`` writes."""
    mixin: Any = library().ModelHubMixin

    class Uploader(mixin, library_name="caffe_port"):  # type: ignore[misc, call-arg]  # any class
        def __init__(self, save: Callable[[Path], None]) -> None:
            self._save = save

        def _save_pretrained(self, save_directory: Path) -> None:
            self._save(save_directory)

    return Uploader(save)
