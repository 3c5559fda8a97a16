"""A model as a folder: weights, prototxt, and what is known of the model.

    model.safetensors   the weights
    net.prototxt        the net
    config.json         phase and shapes of the net, and ``ModelInfo``
    README.md           the model card, for people; never read here

All of it may come from a stranger: nothing in it is run, and sizes are bounded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caffe_port.errors import FormatError
from caffe_port.files import OpenFile, is_safetensors, is_text, read_json, reading
from caffe_port.model_info import ModelInfo, parse_info
from caffe_port.stalls import Waiting

WEIGHTS, PROTOTXT, CONFIG, CARD = "model.safetensors", "net.prototxt", "config.json", "README.md"
FILES = (PROTOTXT, WEIGHTS, CONFIG)  # that make the model
FORMAT, VERSION = "caffe_port model", 1
MAX_CONFIG = 2**20  # bytes: room for 20,000 class names


class ModelFolder:
    """A model folder, whose files are opened once.

    Args:
        path: the folder.
    Attributes:
        net, weights, config: its files.
        info: what config.json says of the model.
        settings: what config.json says of the net: phase, level, stages, dialect and shapes.
    Raises:
        ReadError: a file is missing or cannot be read.
        FormatError: a file is not of its kind, or config.json breaks its format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = Path(path)
        self.net, self.weights, self.config = (_opened(folder, name) for name in FILES)
        values = _read_config(self.config)
        self.info = parse_info(values.get("info", {}), folder / CONFIG)
        self.settings = _settings(values, folder)
        if not is_text(self.net.head):
            raise FormatError("not a text; expected a prototxt", path=self.net.path)
        if not is_safetensors(self.weights.head, self.weights.size):
            raise FormatError("not a safetensors file", path=self.weights.path)


def _opened(folder: Path, name: str) -> OpenFile:
    with Waiting(folder):
        if not (folder / CONFIG).exists():
            raise FormatError(
                f"a folder without {CONFIG}; expected a model's file, or a folder that "
                "Net.save_pretrained or 'convert --pretrained' wrote",
                path=folder,
            )
    with reading(folder / name):
        return OpenFile(folder / name)


def _read_config(file: OpenFile) -> dict[str, Any]:
    values = read_json(file, MAX_CONFIG)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        message = f'not of a caffe_port model: expected "format": "{FORMAT}"'
        raise FormatError(message, path=file.path)
    version = values.get("version")
    if version != VERSION:
        message = f"version {version!r:.40}; this caffe_port reads version {VERSION}: update it"
        raise FormatError(message, path=file.path)
    return values


def config_text(
    folder: Path, info: ModelInfo, settings: Mapping[str, str], more: Mapping[str, Any]
) -> str:
    """The text of config.json.

    Args:
        folder: for messages.
        info: of the model.
        settings: ``NetSpec.settings()``.
        more: further entries, for people.
    Raises:
        FormatError: it would be over ``MAX_CONFIG`` bytes.
    """
    net = {name: _plain(name, value) for name, value in settings.items()}
    values = {"format": FORMAT, "version": VERSION, **more, "net": net, "info": info.as_dict()}
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    if len(text) > MAX_CONFIG:
        message = f"{len(text)} bytes; at most {MAX_CONFIG} are allowed: shorten names or remarks"
        raise FormatError(message, path=folder / CONFIG)
    return text


_JSON_SETTINGS = ("level", "stages", "input_shapes")  # strings of JSON in NetSpec.settings


def _plain(name: str, value: str) -> Any:
    return json.loads(value) if name in _JSON_SETTINGS else value


def _settings(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The reverse of ``NetSpec.settings()`` as config.json has it."""
    given = values.get("net", {})
    if not isinstance(given, dict):
        raise FormatError(f"net is {given!r:.40}; expected an object", path=folder / CONFIG)
    for name in ("phase", "dialect"):
        if not isinstance(given.get(name, ""), str):
            message = f"net: {name} is {given[name]!r:.40}; expected a text"
            raise FormatError(message, path=folder / CONFIG)
    return {
        name: json.dumps(value) if name in _JSON_SETTINGS else value
        for name, value in given.items()
    }
