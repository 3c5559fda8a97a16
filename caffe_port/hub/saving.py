"""Writes model folders, with what is known of the model, and uploads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_port.datasets import dataset as find_dataset
from caffe_port.datasets import known_datasets
from caffe_port.errors import UsageError
from caffe_port.evaluation.figures import read_class_names
from caffe_port.evaluation.network import score_blob
from caffe_port.evaluation.score_net import data_preprocessing
from caffe_port.files import write_text
from caffe_port.hub.card import card_text, read_parity
from caffe_port.hub.repositories import REPOSITORY, hub_errors, library
from caffe_port.model_folder import CARD, CONFIG, FILES, PROTOTXT, WEIGHTS, ModelFolder, config_text
from caffe_port.model_info import ModelInfo
from caffe_port.parity.verify import digest
from caffe_port.stalls import Waiting
from caffe_port.weights import write_weights

if TYPE_CHECKING:
    from caffe_port.net import Net
    from caffe_port.spec import NetSpec


def completed(net: Net, given: Mapping[str, Any]) -> ModelInfo:
    """What is known of a net.

    Args:
        net: its ``info`` is what was known before.
        given: fields of ``ModelInfo``, in place of those; ``classes`` may be a file with one name
            on each line. None counts as not given.
    Raises:
        UsageError: an unknown field, a wrong value, or another number of classes than the net's.
        DataError: the file of classes cannot be read.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if isinstance(classes := values.get("classes"), str | os.PathLike):
        values["classes"] = read_class_names(classes)
    if "classes" in values or "dataset" in values:
        values.setdefault("palette", ())  # that of other classes
        values.setdefault("classes", ())
    try:
        info = replace(net.info, **values)
    except TypeError:
        fields = ModelInfo.__dataclass_fields__
        unknown = ", ".join(name for name in values if name not in fields)
        raise UsageError(f"unknown field {unknown}; fields: {', '.join(fields)}") from None
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _with_preprocessing(_with_classes(_with_blob(info, net.spec), net.spec), net.spec)


def _with_blob(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    if info.blob is None:
        try:
            return replace(info, blob=score_blob(spec))
        except UsageError:  # a net that does not segment, or several outputs
            return info
    if info.blob not in spec.shapes:
        raise UsageError(f"blob: the net '{spec.name}' has no blob '{info.blob}'")
    return info


def _with_classes(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    """With the classes and colours of a data set that is known, or described in a file.

    Raises:
        UsageError: another number of classes than the net's.
    """
    name, counts = info.dataset, _class_counts(info, spec)
    is_file = name.lower().endswith(".json")
    if is_file or (not info.classes and name.lower().replace("-", "_") in known_datasets()):
        data = find_dataset(name)
        if counts and len(data.classes) not in counts:
            data.rules.expect_classes(min(counts))
        colours = data.colours[: len(data.classes)].tolist()
        info = replace(info, dataset=data.name, classes=data.classes, palette=colours)
    if info.classes and counts and len(info.classes) not in counts:
        words = " or ".join(map(str, sorted(counts)))
        raise UsageError(f"classes: {len(info.classes)} names for a net of {words} classes")
    return info


def _class_counts(info: ModelInfo, spec: NetSpec) -> set[int]:
    """The channels of the score blob; where none is known, of the outputs that could be it."""
    made = [blob for blob in spec.outputs if blob not in spec.sources]
    blobs = made if info.blob is None else [info.blob]
    return {shape[1] for shape in map(spec.shapes.__getitem__, blobs) if len(shape) > 1}


def _with_preprocessing(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    if not spec.sources:
        return info
    mean, scale = data_preprocessing(spec)
    if info.mean is None and mean is not None:
        info = replace(info, mean=mean)
    return replace(info, scale=scale) if info.scale is None and scale is not None else info


# Writes model folders, and uploads them by huggingface_hub's ``ModelHubMixin``.
#
# ``Net`` does not inherit from the mixin: every ``import caffe_port`` would then load the package,
# and its own ``save_pretrained`` and ``from_pretrained`` read config.json without bounds.

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
