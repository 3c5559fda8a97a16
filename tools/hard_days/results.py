"""What a command leaves: its final files, whether they are whole, and what must not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

TIMED = ("seconds", "images_per_second", "per_image")  # what may differ from run to run


def final(out: Path) -> list[Path]:
    """The files under their final names; unfinished ones begin with a dot."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return [f for f in files if not any(p.startswith(".") for p in f.relative_to(out).parts)]


def result(kept: str, out: Path) -> dict[str, str]:
    """What must not change: the contents of a job's results."""
    return {
        str(path.relative_to(out)): hashlib.sha256(content(path)).hexdigest()
        for path in final(out) if path.match(kept)
    }  # fmt: skip


def everything(out: Path) -> dict[str, bytes]:
    """All files under final names, byte for byte."""
    return {str(path.relative_to(out)): path.read_bytes() for path in final(out)}


def content(path: Path) -> bytes:
    """A file's bytes; of JSON, all but the times."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in values.items() if k not in TIMED}, sort_keys=True).encode()


def unreadable(out: Path) -> list[Path]:
    """The files under final names that cannot be read to their end."""
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


def read_picture(path: Path) -> None:
    """Decodes a picture."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()


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
    ".png": read_picture, ".pt": read_weights, ".caffemodel": read_weights, ".json": read_json,
    ".solverstate": read_state, ".runstate": read_json,
}  # fmt: skip
