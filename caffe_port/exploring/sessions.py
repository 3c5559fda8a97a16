"""What the server remembers: the model, and for each open page its image, within bounds."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.crf import DenseCRF
from caffe_port.data.images import Bytes
from caffe_port.errors import CaffePortError
from caffe_port.evaluation.network import Floats
from caffe_port.prediction.segmentation import Segmentation

if TYPE_CHECKING:
    from torch import Tensor

    from caffe_port.datasets.rules import LabelRules
    from caffe_port.exploring.blobs import Verification
    from caffe_port.exploring.training import RunFolder
    from caffe_port.prediction.segmenter import Segmenter

_LATTICE = 40  # bytes of a kernel's lattice for each pixel, about


class NoSessionError(CaffePortError):
    """The page's session is unknown: the server was restarted, or dropped it for memory."""


@dataclass(frozen=True)
class Limits:
    """Bounds of what pages may ask for.

    Args:
        sessions: open pages that are remembered; of more the one that was idle longest is dropped.
        pixels: an image with more is reduced.
        memory: bytes of all images, scores and results.
        upload: bytes of an uploaded file.
        idle: seconds after which an unused session is dropped.
        body_seconds: within which a request's body must have arrived.
        head_seconds: within which a connection's first request must have arrived.
    """

    sessions: int = 8
    pixels: int = 1_000_000
    memory: int = 2 * 2**30
    upload: int = 64 * 2**20
    idle: float = 4 * 3600
    body_seconds: float = 60
    head_seconds: float = 20

    def pixels_for(self, classes: int) -> int:
        """The largest image of a net of so many classes: its scores take at most an eighth."""
        return max(1, min(self.pixels, self.memory // (8 * 4 * classes)))


@dataclass(frozen=True)
class Sample:
    """An image of ``--images``; the page names it by its number.

    Attributes:
        name: shown.
        path: the file.
        truth: its label map, or None.
    """

    name: str
    path: Path
    truth: Path | None = None


@dataclass
class Subject:
    """What the page looks into.

    Attributes:
        segmenter: the model and its settings.
        title: the model's name.
        samples: images that the page offers.
        rules: the meaning of label maps; class indices, and 255 for pixels without, when None.
        verification: a recording to compare with, or None.
        run: a folder to watch, or None.
        threads: of the CRF.
    """

    segmenter: Segmenter
    title: str
    samples: Sequence[Sample] = ()
    rules: LabelRules | None = None
    verification: Verification | None = None
    run: RunFolder | None = None
    threads: int = 1
    activations: tuple[object, dict[str, Tensor]] | None = field(default=None, repr=False)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.segmenter.scores.classes


@dataclass(eq=False)
class Photo:
    """An image with its scores.

    Attributes:
        name: shown.
        bgr: (h, w, 3) uint8, blue first, perhaps reduced.
        stored: height and width of the file's image.
        scores: (C, h, w) float32.
        truth: (h, w) uint8, 255 where no class counts; None without.
    """

    name: str
    bgr: Bytes
    stored: tuple[int, int]
    scores: Floats
    truth: Bytes | None = None

    @property
    def image(self) -> Bytes:
        """(h, w, 3) uint8, red first."""
        return np.ascontiguousarray(self.bgr[:, :, ::-1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bgr.shape[0], self.bgr.shape[1]


@dataclass(eq=False)
class Session:
    """One open page: its image and the results that are kept for the next request.

    Attributes:
        photo: the image, None before the first.
        refined: (C, h, w) float32, the last result of the CRF.
        crf: its widths and colours, and the lattices made for them.
    """

    photo: Photo | None = None
    refined: Floats | None = None
    crf: tuple[object, DenseCRF] | None = None
    used: float = 0.0

    def show(self, photo: Photo) -> None:
        """Replaces the image; results of the former one are dropped."""
        self.photo, self.refined, self.crf = photo, None, None

    def expect_photo(self) -> Photo:
        """The image. Raises NoSessionError before the first, as after a restart."""
        if self.photo is None:
            raise NoSessionError("this page has no image on the server: choose it again")
        return self.photo

    def segmentation(self, subject: Subject, which: str = "network") -> Segmentation:
        """The result of the network, or with ``which="crf"`` of the CRF if it has run."""
        photo = self.expect_photo()
        refined = self.refined if which == "crf" else None
        segmenter = subject.segmenter
        return Segmentation(photo.image, photo.scores, segmenter.names, refined, segmenter.colours)

    @property
    def memory(self) -> int:
        """Bytes, about."""
        if self.photo is None:
            return 0
        photo = self.photo
        arrays = (photo.bgr, photo.scores, photo.truth, self.refined)
        kept = sum(int(array.nbytes) for array in arrays if array is not None)
        lattices = 0 if self.crf is None else self.crf[1].kernel_count
        return kept + lattices * _LATTICE * photo.size[0] * photo.size[1]


class Sessions:
    """The sessions of all open pages, the one that was used last at the end.

    Args:
        limits: their number, memory and age.
        clock: seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> str:
        """Makes a session; returns its name, which cannot be guessed."""
        name = secrets.token_urlsafe(16)
        self._sessions[name] = Session(used=self._clock())
        self.trim()
        return name

    def find(self, name: str) -> Session:
        """The session of that name, now the one used last.

        Raises:
            NoSessionError: there is none.
        """
        session = self._sessions.get(name)
        if session is None:
            raise NoSessionError("this page's session is unknown: the server was restarted")
        session.used = self._clock()
        self._sessions.move_to_end(name)
        return session

    def close(self, name: str) -> None:
        """Forgets a session, if there is one of that name."""
        self._sessions.pop(name, None)

    @property
    def memory(self) -> int:
        """Bytes of all sessions, about."""
        return sum(session.memory for session in self._sessions.values())

    def trim(self) -> None:
        """Drops sessions that are too many, too old or too large, except the one used last."""
        now = self._clock()
        for name, session in list(self._sessions.items())[:-1]:
            if (
                len(self._sessions) > self._limits.sessions
                or now - session.used > self._limits.idle
                or self.memory > self._limits.memory
            ):
                del self._sessions[name]
