"""Images, folders, lists and videos as one sequence of inputs."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from caffe_port.data.decoding import current
from caffe_port.data.images import Bytes, decode_image, read_content
from caffe_port.data.list_file import list_lines
from caffe_port.data.voc import IMAGE_SUFFIXES
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.stalls import Waiting

_CAMERA = "camera:"
# FFmpeg's own name of the system's cameras
_SYSTEMS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


def camera_of(word: str) -> str | None:
    """The device that camera:0 or camera:/dev/video0 names, None where it names no camera."""
    if not word.startswith(_CAMERA):
        return None
    device = word.removeprefix(_CAMERA)
    return f"/dev/video{device}" if device.isdigit() and sys.platform == "linux" else device


class Video:
    """A video, reopened for each reading.

    Args:
        source: a file, or a device.
        where: what its user calls it.
        limit: how many frames are read at most; all when absent.
        camera: whether the source is a device.
    Raises:
        UsageError: PyAV is not installed.
    """

    def __init__(
        self, source: str, where: str, limit: int | None = None, *, camera: bool = False
    ) -> None:
        self.where = where
        self._source, self._limit, self._camera = source, limit, camera
        self._av = _pyav(where)

    @property
    def expected(self) -> int:
        """The number of frames in the file's header; at least 1."""
        if self._camera:
            return self._limit or 1
        try:
            with self._opened() as container:
                streams = container.streams.video
                frames = streams[0].frames if streams else 0
        except DataError:
            return 1  # reading it will say why
        frames = max(1, frames)
        return frames if self._limit is None else min(frames, self._limit)

    def frames(self) -> Iterator[Bytes]:
        """The frames in the order in which they are shown.

        Yields:
            (h, w, 3) uint8, blue first.
        Raises:
            DataError: it cannot be opened or decoded, or its frames are too large.
        """
        count = 0
        with self._opened() as container:
            if not container.streams.video:
                raise DataError(f"{self.where}: holds no video, only other streams")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > current().max_pixels:
                raise DataError(
                    f"{self.where}: frames of {stream.width} x {stream.height}; expected at most "
                    f"{current().max_pixels:,} pixels"
                )
            frames = container.decode(stream)
            while self._limit is None or count < self._limit:
                try:
                    frame = next(frames, None)
                except self._av.error.FFmpegError as error:
                    if count and isinstance(error, EOFError):
                        return
                    message = f"{self.where}: cannot be decoded after frame {count}: {error}"
                    raise DataError(message) from error
                if frame is None:
                    break
                count += 1
                yield np.ascontiguousarray(frame.to_ndarray(format="bgr24"))
        if not count:
            raise DataError(f"{self.where}: holds no frame")

    def _opened(self) -> Any:
        format = _SYSTEMS.get(sys.platform) if self._camera else None
        try:
            return self._av.open(self._source, format=format)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{self.where}: cannot be opened as a video: {error}") from error


def _pyav(where: str) -> Any:
    try:
        import av
    except ImportError:
        raise UsageError(
            f"{where}: videos are read through PyAV, which is not installed; install the extra "
            "'video': pip install 'caffe-port[video]'"
        ) from None
    return av


STDIN = "-"
LIST_SUFFIXES = (".txt", ".lst")
VIDEO_SUFFIXES = (
    ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv",
)  # fmt: skip


@dataclass(frozen=True)
class InputImage:
    """A decoded image.

    Attributes:
        name: of its results: a path below the output folder, without suffix.
        where: what its user calls it, for messages and the gallery.
        pixels: (h, w, 3) uint8, blue first; None where it cannot be read.
        digest: of the file's bytes, or of a frame's pixels.
        error: why it cannot be read.
    """

    name: str
    where: str
    pixels: Bytes | None = None
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class _File:
    """An image file, or what a list or the user takes for one."""

    name: str
    path: Path

    def __len__(self) -> int:
        return 1

    def images(self) -> Iterator[InputImage]:
        where = str(self.path)
        try:
            content = read_content(self.path)
            pixels = decode_image(content, where, True)
        except CaffePortError as error:
            yield InputImage(self.name, where, error=str(error))
            return
        yield InputImage(self.name, where, pixels, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class _Frames:
    """The frames of a video, whose results are in a folder of its name."""

    name: str
    video: Video

    def __len__(self) -> int:
        return self.video.expected

    def images(self) -> Iterator[InputImage]:
        where = self.video.where
        try:
            for number, pixels in enumerate(self.video.frames(), 1):
                digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
                name = f"{self.name}/{number:06d}"
                yield InputImage(name, f"{where}, frame {number}", pixels, digest)
        except DataError as error:
            yield InputImage(self.name, where, error=str(error))


class Inputs:
    """All images that a command line names, in its order; none is read before it is needed.

    Understood are an image file of any format that ``data`` reads; a folder, searched for images
    with all its subfolders; a pattern such as 'photos/**/*.jpg'; a .txt or .lst file with a path
    a line, relative to the list's folder or the current one; '-', such a list on standard input;
    a video file; and camera:0. A file that is named twice is taken once.

    Args:
        words: the inputs.
        without: a folder that searches leave out, as it holds the results.
        frames: of a video, how many are taken; all when absent.
    Raises:
        DataError: a list cannot be read, or a pattern or a folder holds no image.
        UsageError: a video is named and PyAV is missing.
    """

    def __init__(
        self, words: Sequence[str], *, without: Path | None = None, frames: int | None = None
    ) -> None:
        self._without = None if without is None else without.resolve()
        self._frames = frames
        self._names: set[str] = set()
        self._seen: set[str] = set()
        self._parts: list[_File | _Frames] = []
        for word in words:
            self._add(word)
        if not self._parts:
            raise DataError("the inputs name no image")

    def __len__(self) -> int:
        """How many images there are; for a video, how many its header promises."""
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[InputImage]:
        for part in self._parts:
            yield from part.images()

    def _add(self, word: str) -> None:
        path = Path(word)
        with Waiting(path):
            folder, file = path.is_dir(), path.is_file()
        if word == STDIN:
            self._add_list(sys.stdin, "standard input", Path())
        elif (device := camera_of(word)) is not None:
            name = self._named(PurePath(word.replace(":", "_").replace("/", "_")))
            self._parts.append(_Frames(name, Video(device, word, self._frames, camera=True)))
        elif folder:
            self._add_folder(path)
        elif not file and glob.has_magic(word):
            self._add_pattern(word)
        elif path.suffix.lower() in LIST_SUFFIXES:
            lines = (line for _, line in list_lines(path))
            self._add_list(lines, word, path.parent)
        else:
            self._add_file(path, PurePath(path.name))

    def _add_folder(self, folder: Path) -> None:
        for path in image_files(folder, self._without):
            self._add_file(path, path.relative_to(folder))

    def _add_pattern(self, pattern: str) -> None:
        found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
        known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        chosen = [path for path in found if path.suffix.lower() in known and path.is_file()]
        if not chosen:
            raise DataError(f"{pattern}: no image matches the pattern")
        for path in chosen:
            self._add_file(path, PurePath(path.name))

    def _add_list(self, lines: Iterable[str], where: str, folder: Path) -> None:
        found = False
        for line in lines:
            word = line.strip().removeprefix("\ufeff")
            if word:
                found = True
                path = _listed(word, folder)
                self._add_file(path, PurePath(path.name))
        if not found:
            raise DataError(f"{where}: the list is empty")

    def _add_file(self, path: Path, name: PurePath) -> None:
        own = os.path.realpath(path)
        if own in self._seen:
            return
        self._seen.add(own)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            video = Video(str(path), str(path), self._frames)
            self._parts.append(_Frames(self._named(name), video))
        else:
            self._parts.append(_File(self._named(name), path))

    def _named(self, path: PurePath) -> str:
        """The name of an input's results; a number is added where another input has it."""
        name, number = path.with_suffix("").as_posix(), 1
        chosen = name
        while chosen in self._names:
            number += 1
            chosen = f"{name}_{number}"
        self._names.add(chosen)
        return chosen


def _listed(line: str, folder: Path) -> Path:
    """The file that a line of a list names, alone or with a label map as its second word.

    DeepLab's lists begin paths with a slash that means the list's root.
    """
    for word in dict.fromkeys((line, line.split(maxsplit=1)[0])):
        for path in (folder / word, Path(word), folder / word.lstrip("/")):
            with Waiting(path):
                if os.path.isfile(path):
                    return path
    return folder / line


def image_files(folder: Path, without: Path | None = None) -> list[Path]:
    """The image files of a folder and its subfolders, sorted; hidden names are left out.

    Args:
        folder: the folder.
        without: a resolved folder that is not searched.
    Raises:
        DataError: there are none.
    """
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and Path(here, name).resolve() != without
        )  # fmt: skip
        found += [
            Path(here, name) for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]  # fmt: skip
    if not found:
        raise DataError(f"{folder}: the folder and its subfolders hold no image")
    return sorted(found)


def is_input(word: str) -> bool:
    """Whether a word names images rather than a file of weights."""
    path = Path(word)
    if word == STDIN or camera_of(word) is not None or glob.has_magic(word) or path.is_dir():
        return True
    return path.suffix.lower() in {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *LIST_SUFFIXES}


def check_inputs(words: Sequence[str]) -> None:
    """Refuses a command line without inputs.

    Raises:
        UsageError: there is none, or standard input is named twice.
    """
    if not words:
        raise UsageError(
            "no image is given: expected MODEL [WEIGHTS] INPUT..., such as a photo or a folder"
        )
    if list(words).count(STDIN) > 1:
        raise UsageError("standard input is named twice")
