"""A folder of scores, so that other CRF settings can be tried without running the network again.

    DIR/ab/abcd....scores    one for each image: a line of JSON (shape, digest), then float32

A file's name is the digest of everything that decides its scores: network, image and
preprocessing. Kept is what the network says before it is enlarged to the picture's size, where
that is possible: some 0.4 MB for a VOC image, else some 16 MB.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from caffe_port.data.pictures import PathLike
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.settings import Floats
from caffe_port.files import atomic_path, open_regular

_LONGEST_HEADER = 1000
_KIND = "caffe_port scores 1"


class ScoreCache:
    """Scores of one network with one preprocessing; several processes may share the folder.

    Args:
        folder: made when the first scores are saved.
        decisive: JSON-able; what besides the image decides the scores.
    """

    def __init__(self, folder: PathLike, decisive: dict[str, object]) -> None:
        self.folder = Path(folder)
        self._start = json.dumps([_KIND, decisive], sort_keys=True)

    def path(self, image: str) -> Path:
        """Where the scores of an image are, given its file's digest."""
        name = hashlib.sha256(f"{self._start}{image}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.scores"

    def load(self, image: str) -> Floats | None:
        """The scores, or None where there are none yet.

        Args:
            image: digest of its file.
        Raises:
            DataError: what is there is not what was saved.
        """
        path = self.path(image)
        try:
            with open_regular(path) as file:
                header = file.readline(_LONGEST_HEADER)
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        try:
            entry = json.loads(header)
            shape = tuple(int(size) for size in entry["shape"])
            whole = entry["kind"] == _KIND and entry["sha256"] == hashlib.sha256(data).hexdigest()
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise DataError(f"{path}: not scores of this package") from error
        if not whole or min(shape, default=0) < 1 or len(data) != 4 * math.prod(shape):
            raise DataError(f"{path}: damaged scores")
        return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)

    def save(self, image: str, scores: Floats) -> None:
        """Writes scores, whole or not at all.

        Raises:
            UsageError: the folder cannot be written.
        """
        path, data = self.path(image), scores.astype("<f4", copy=False).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        header = json.dumps({"kind": _KIND, "shape": scores.shape, "sha256": digest})
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(header.encode() + b"\n" + data)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: scores cannot be written: {error.strerror or error}"
            ) from error
