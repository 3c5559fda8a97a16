"""Writes what Caffe answered as a recording: a folder as `caffe-port verify` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caffe_port.parity.archives import BLOB_PARTS, PARAM_PARTS

_PARTS = tuple(f"{part}/" for part in BLOB_PARTS + PARAM_PARTS)
_FILES = "file/"


def write_training(
    folder: Path,
    net: str,
    solver: str,
    steps: int,
    given: Mapping[str, Any],
    answered: Mapping[str, Any],
    notes: Mapping[str, object],
) -> None:
    """Writes a training: the texts, Caffe's snapshot, and arrays named as in the solver goldens.

    Args:
        folder: made where it is missing.
        net, solver: texts.
        steps: before the snapshot, and after it.
        given: arrays that Caffe was given.
        answered: arrays that it answered, numbered by action.
        notes: further fields of case.json.
    """
    arrays: dict[str, Any] = {}
    for name, value in {**given, **answered}.items():
        part, _, rest = name.partition("/")
        if part in ("weights", "output"):
            place, _, key = rest.partition("/")
            iteration = int(place) + (int(place) < steps)  # the snapshot is an action of its own
            arrays[f"{'w' if part == 'weights' else part}/{iteration}/{key}"] = value
        elif part == "input":
            batch, _, blob = rest.partition("/")
            arrays[f"batch/{batch}/{blob}"] = value
        elif part in ("param", "start"):
            arrays[f"w/0/{rest}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.prototxt").write_text(net, encoding="utf-8")
    (folder / "solver.prototxt").write_text(solver, encoding="utf-8")
    _write_files(folder, answered)
    np.savez(folder / "case.npz", **arrays)
    _write_notes(folder, notes)


def _write_files(folder: Path, answered: Mapping[str, Any]) -> None:
    for name, content in answered.items():
        if name.startswith(_FILES):
            (folder / Path(name).name).write_bytes(np.asarray(content).tobytes())


def _write_notes(folder: Path, fields: Mapping[str, object]) -> None:
    text = json.dumps(fields, indent=1, sort_keys=True)
    (folder / "case.json").write_text(f"{text}\n", encoding="utf-8")


def write_recording(
    folder: Path,
    net: str,
    phase: str,
    given: Mapping[str, Any],
    answered: Mapping[str, Any],
    notes: Mapping[str, object],
) -> None:
    """Writes net.prototxt, case.json, case.npz, and the files that Caffe wrote.

    Args:
        folder: made where it is missing.
        net: its text.
        phase: 'TRAIN' or 'TEST'.
        given: arrays that Caffe was given (inputs, parameters).
        answered: arrays that it answered.
        notes: further fields of case.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.prototxt").write_text(net, encoding="utf-8")
    _write_files(folder, answered)
    arrays = {
        name: np.asarray(value, np.float32)
        for name, value in {**given, **answered}.items()
        if name.startswith(_PARTS)
    }
    np.savez(folder / "case.npz", **arrays)  # type: ignore[arg-type]
    backward = any(name.startswith(("diff/", "pdiff/")) for name in arrays)
    _write_notes(folder, {"phase": phase, "backward": backward, **notes})
