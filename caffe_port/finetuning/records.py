"""JSON files of a run, and digests of files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from caffe_port import files
from caffe_port.errors import FormatError, UsageError


def digest(path: Path) -> str:
    """sha256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return files.digest(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """An object.

    Raises:
        UsageError: the file cannot be read.
        FormatError: it holds something else.
    """
    try:
        values = json.loads(files.read_text(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error
    if not isinstance(values, dict):
        raise FormatError("expected a JSON object", path=path)
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes an object, all of it or nothing."""
    files.write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
