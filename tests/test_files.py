"""Files are written completely or not at all, and read only if they have an end."""

import errno
import hashlib
import os
import stat

import pytest

from caffe_port.errors import FormatError, LayerError, described
from caffe_port.files import OpenFile, atomic_path, open_regular
from caffe_port.proto import parse_net
from caffe_port.spec import NetSpec


def test_the_file_appears_complete_and_only_at_the_end(tmp_path):
    final = tmp_path / "new" / "net.caffemodel.h5"
    with atomic_path(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.name.endswith(".h5")
        assert not final.exists()
        temporary.write_bytes(b"all")
    assert final.read_bytes() == b"all"
    assert list(final.parent.iterdir()) == [final]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    final = tmp_path / "a.pt"
    final.write_bytes(b"old")

    def write_half():
        with atomic_path(final) as temporary:
            temporary.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert final.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [final]


def test_permissions_are_those_of_any_new_file(tmp_path):
    final, other = tmp_path / "a", tmp_path / "b"
    before = os.umask(0o027)
    try:
        with atomic_path(final) as temporary:
            temporary.write_bytes(b"x")
        other.write_bytes(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(final.stat().st_mode) == stat.S_IMODE(other.stat().st_mode) == 0o640


def test_a_folder_in_the_way(tmp_path):
    with pytest.raises(OSError, match="directory"), atomic_path(tmp_path) as temporary:
        temporary.write_bytes(b"x")
    assert tmp_path.is_dir()
    assert [p for p in tmp_path.parent.iterdir() if p.name.startswith(f".{tmp_path.name}")] == []


def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path):
    final = tmp_path / "net.pt"
    with (
        pytest.raises(OSError, match=r"No space left.*net\.pt'$"),
        atomic_path(final) as temporary,
        temporary.open("wb"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_digest_covers_all_bytes_of_a_regular_file(tmp_path):
    content = bytes(range(256)) * 2**13
    (tmp_path / "a").write_bytes(content)
    assert OpenFile(tmp_path / "a").digest() == hashlib.sha256(content).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        OpenFile(tmp_path / "pipe")


def test_what_is_not_a_regular_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for name in ("pipe", "link"):
        with (
            pytest.raises(OSError, match="exists and is not a regular file"),
            atomic_path(tmp_path / name),
        ):
            pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_system_error_about_a_handle_is_described_too():
    assert described(OSError(errno.EBADF, "Bad file descriptor", 7)).startswith("7: Bad file")


def test_a_windows_path_whose_backslashes_became_escapes(tmp_path):
    """In a prototxt, as in C, the text D:\\new\\train.txt holds a newline and a tab."""
    text = r"""layer { name: "d" type: "ImageData" top: "x" top: "y"
        image_data_param { source: "D:\new\train.txt" batch_size: 1 } }"""
    words = r"holds a newline \(\\n\) and a tab \(\\t\): in a prototxt a backslash begins an escape"
    with pytest.raises(LayerError, match=words):
        NetSpec.build(parse_net(text).message)
    with pytest.raises(FileNotFoundError) as caught:
        open_regular(tmp_path / "plain.txt")
    assert caught.value.strerror == "No such file or directory"
    with pytest.raises(FormatError, match=r"unknown escape '\\d' in a string: write / in a path"):
        parse_net(text.replace("new", "data"))
