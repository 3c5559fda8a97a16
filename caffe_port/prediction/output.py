"""The files of a prediction: which there are, how they are written, and when they are kept.

    OUT/index.html                  the gallery
    OUT/labels/NAME.png             class indices, as a palette PNG
    OUT/overlays/NAME.jpg           the image under those colours, with a legend
    OUT/confidence/NAME.png         grey: 255 times the label's probability
    OUT/entropy/NAME.png            grey: 255 times the entropy over log C
    OUT/scores/NAME.npy             on request: (C, h, w), before the softmax and the CRF
    OUT/probabilities/NAME.npy      on request: (C, h, w), after the CRF if there is one

The label map is written last. Its note names the settings, the image and the other files, so a
later run knows what it can keep.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from caffe_port import locks
from caffe_port.crf import arrays
from caffe_port.data.images import Bytes, PathLike, note_of, open_written, write_labels
from caffe_port.data.label_values import label_values
from caffe_port.errors import CaffePortError, UsageError
from caffe_port.evaluation.network import Floats
from caffe_port.files import write_bytes
from caffe_port.prediction.segmentation import Segmentation, as_grey, file_of

Extra = Literal["scores", "probabilities"]
EXTRAS: tuple[Extra, ...] = ("scores", "probabilities")
FORMATS = tuple(arrays.SUFFIXES)
DTYPES = ("float32", "float16")

_MARK = "caffe_port predict"
_LOCK = ".predict.lock"
# what atomic_path calls a file that is not finished
_HALF = re.compile(r"\..+\.[a-z0-9_]{8}\.(png|jpg|npy|npz|h5)")


@dataclass(frozen=True)
class Wanted:
    """Which arrays are written besides the images, and how.

    Args:
        extras: any of "scores" and "probabilities".
        format: "npy", "npz" (under the name of the kind) or "h5" (a data set of that name).
        dtype: "float32" or "float16".
    Raises:
        UsageError: a value that is not one of these.
    """

    extras: tuple[str, ...] = ()
    format: str = "npy"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for extra in self.extras:
            _check("write", extra, EXTRAS)
        _check("format", self.format, FORMATS)
        _check("dtype", self.dtype, DTYPES)


class Output:
    """The folder of a prediction.

    Args:
        root: the folder; made when the first file is written.
        settings: JSON-able; what, besides the image, decides the results.
        wanted: which arrays are written.
    Examples:
        >>> output = Output("out", {}, Wanted(("scores",), "npz"))
        >>> [path.as_posix() for path in output.paths("boat").values()][::4]
        ['out/overlays/boat.jpg', 'out/labels/boat.png']
    """

    def __init__(
        self, root: PathLike, settings: dict[str, object], wanted: Wanted | None = None
    ) -> None:
        self.root, self.wanted = Path(root), wanted or Wanted()
        text = json.dumps(settings, sort_keys=True)
        self._settings = hashlib.sha256(text.encode()).hexdigest()[:16]

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other predictions out of the folder.

        Raises:
            UsageError: another process is in it, or it cannot be written.
        """
        doing = "predicting into this folder"
        return locks.locked(self.root / _LOCK, str(self.root), doing, "choose another folder")

    def drop_unfinished(self) -> None:
        """Removes what a killed run left half-written; nobody else may be writing."""
        for kind in ("labels", "overlays", "confidence", "entropy", *EXTRAS):
            for file in sorted((self.root / kind).rglob(".*")):
                if _HALF.fullmatch(file.name) and file.is_file():
                    file.unlink()

    def paths(self, name: str) -> dict[str, Path]:
        """Kind -> file of an image's results; the label map is the last."""
        suffixes = {"overlays": ".jpg", "confidence": ".png", "entropy": ".png"}
        suffixes |= dict.fromkeys(self.wanted.extras, f".{self.wanted.format}")
        suffixes["labels"] = ".png"
        return {kind: self.root / kind / (name + suffix) for kind, suffix in suffixes.items()}

    def kept(self, name: str, digest: str) -> Bytes | None:
        """The label map of an earlier run with these settings and this image, or None.

        Args:
            name: of the image's results.
            digest: of the image.
        """
        paths = self.paths(name)
        image = open_written(paths["labels"])
        note, start = "" if image is None else note_of(image), self._note(digest)
        written = set(note.removeprefix(start).split(","))
        complete = note.startswith(start) and written.issuperset(self._arrays())
        if image is None or not complete or not all(path.is_file() for path in paths.values()):
            return None
        try:
            labels = label_values(str(paths["labels"]), image)
        except CaffePortError:
            return None
        return labels.astype(np.uint8)

    def save(self, name: str, digest: str, result: Segmentation) -> None:
        """Writes the results of an image, each file whole or not at all.

        Raises:
            OSError: a file cannot be written.
            UsageError: a score is too large for float16.
        """
        paths = self.paths(name)
        write_bytes(paths["overlays"], file_of(result.overlay(), "JPEG"))
        write_bytes(paths["confidence"], file_of(as_grey(result.confidence), "PNG"))
        write_bytes(paths["entropy"], file_of(as_grey(result.entropy), "PNG"))
        values = {"scores": result.scores, "probabilities": result.probabilities}
        for kind in self.wanted.extras:
            write_array(paths[kind], values[kind], kind, self.wanted.dtype)
        note = self._note(digest) + ",".join(self._arrays())
        write_labels(paths["labels"], result.labels, note=note, colours=result.colours)

    def _arrays(self) -> list[str]:
        wanted = self.wanted
        return [f"{extra}.{wanted.format}.{wanted.dtype}" for extra in wanted.extras]

    def _note(self, digest: str) -> str:
        return f"{_MARK} settings {self._settings} image {digest[:16]} arrays "


def write_array(path: PathLike, values: Floats, name: str, dtype: str = "float32") -> None:
    """Writes scores or probabilities, whole or not at all.

    Args:
        path: .npy, .npz or .h5.
        values: (C, h, w) float32.
        name: under which the array is kept in an .npz or .h5.
        dtype: "float32" or "float16".
    Raises:
        OSError: the file cannot be written.
        UsageError: a value is too large for float16.
    """
    with np.errstate(over="ignore"):
        stored: npt.NDArray[np.floating] = values.astype(dtype)
    if not np.isfinite(stored).all():
        raise UsageError(
            f"{path}: a value of {np.abs(values).max():g} is too large for float16; write float32"
        )
    arrays.write_array(path, stored, name, compressed=True)


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}; expected {' or '.join(known)}")
