"""Frames of videos, in order and one at a time."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from caffe_port.errors import DataError, UsageError
from caffe_port.prediction.inputs import Inputs, Video, camera_of

SIZE = (48, 64)


def write_video(path, count, size=SIZE):
    """A video whose frames are grey and lighter and lighter."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for number in range(count):
            grey = np.full((*size, 3), 20 + 200 * number // count, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_come_in_order_and_are_named_by_their_number(tmp_path):
    path = write_video(tmp_path / "film.avi", 12)
    inputs = Inputs([str(path)])
    found = list(inputs)
    assert len(inputs) == 12
    assert [one.name for one in found] == [f"film/{n:06d}" for n in range(1, 13)]
    assert {one.pixels.shape for one in found} == {(*SIZE, 3)}
    # the codec loses a little; two frames are 16 apart
    levels = [one.pixels.mean() for one in found]
    np.testing.assert_allclose(levels, [20 + 200 * n // 12 for n in range(12)], atol=8)
    assert len({one.digest for one in found}) == 12


def test_frames_are_decoded_when_they_are_asked_for(tmp_path):
    frames = Video(str(write_video(tmp_path / "film.avi", 200)), "film.avi").frames()
    assert next(frames).mean() < 30
    frames.close()


def test_a_limit_of_frames(tmp_path):
    path = write_video(tmp_path / "film.mp4", 12)
    inputs = Inputs([str(path)], frames=5)
    assert len(inputs) == len(list(inputs)) == 5


def test_a_damaged_video_is_one_failure_after_its_good_frames(tmp_path):
    path = write_video(tmp_path / "film.avi", 12)
    (tmp_path / "none.avi").write_bytes(path.read_bytes()[:300])
    (found,) = Inputs([str(tmp_path / "none.avi")])
    assert "none.avi" in found.error


def test_a_file_that_is_not_a_video(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "film.mp4").write_text("no video")
    (found,) = Inputs([str(tmp_path / "film.mp4")])
    assert "cannot be opened as a video" in found.error


def test_a_missing_camera(tmp_path):
    pytest.importorskip("av")
    (found,) = Inputs([f"camera:{tmp_path}/none"])
    assert "cannot be opened as a video" in found.error


def test_devices_of_cameras():
    assert camera_of("camera:/dev/video3") == "/dev/video3"
    assert camera_of("photo.jpg") is None
    assert camera_of("camera:0") in ("/dev/video0", "0")


def test_without_pyav_the_error_names_the_extra(tmp_path, monkeypatch):
    own = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"caffe-port\[video\]"):
        Inputs([str(tmp_path / "film.mp4")])


def test_a_video_without_image_frames(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(DataError, match="holds no video"):
        list(Video(str(tmp_path / "sound.mkv"), "sound.mkv").frames())
