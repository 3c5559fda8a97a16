"""Frames of a video file or a camera, through PyAV, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from caffe_port.data.decoding import current
from caffe_port.data.images import Bytes
from caffe_port.errors import DataError, UsageError

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
    """A video, opened anew for each reading.

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
        """How many frames there will be, as far as the file's header tells; at least 1."""
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
            "'video': pip install 'caffe_port[video]'"
        ) from None
    return av
