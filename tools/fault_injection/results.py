"""The files that a command leaves: which are final, complete, and equal from run to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

TIMED = ("seconds", "images_per_second", "per_image")  # these values differ from run to run


def final(out: Path) -> list[Path]:
    """The files under final names; the names of temporary ones begin with a dot."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return [f for f in files if not any(p.startswith(".") for p in f.relative_to(out).parts)]


def result(pattern: str, out: Path) -> dict[str, str]:
    """The digests of a job's result files."""
    return {
        str(path.relative_to(out)): hashlib.sha256(content(path)).hexdigest()
        for path in final(out) if path.match(pattern)
    }  # fmt: skip


def everything(out: Path) -> dict[str, bytes]:
    """The bytes of all files under final names."""
    return {str(path.relative_to(out)): path.read_bytes() for path in final(out)}


def content(path: Path) -> bytes:
    """A file's bytes; of JSON, all except the times."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in values.items() if k not in TIMED}, sort_keys=True).encode()


def unreadable(out: Path) -> list[Path]:
    """The files under final names that cannot be read completely."""
    from caffe_port.errors import CaffePortError

    broken = []
    for path in final(out):
        reader = READERS.get(path.suffix)
        try:
            if reader is not None:
                reader(path)
        except (CaffePortError, OSError, ValueError, SyntaxError):
            broken.append(path)
    return broken


def read_image(path: Path) -> None:
    """Decodes an image."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def read_weights(path: Path) -> None:
    """Reads every blob of a weight file."""
    from caffe_port.weights import read_weights

    for layer in read_weights(path).layers:
        for blob in layer.blobs:
            blob.data.sum()


def read_state(path: Path) -> None:
    """Reads a solver state."""
    from caffe_port.weights.solver_state import read_solver_state

    read_solver_state(path)


def read_json(path: Path) -> None:
    """Reads JSON."""
    json.loads(path.read_text(encoding="utf-8"))


READERS: dict[str, Callable[[Path], None]] = {
    ".png": read_image, ".pt": read_weights, ".caffemodel": read_weights, ".json": read_json,
    ".solverstate": read_state, ".runstate": read_json,
}  # fmt: skip
