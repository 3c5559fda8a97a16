"""The kind of a file by its content, and errors that name it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.data.list_file import list_lines
from caffe_port.errors import DataError, FormatError
from caffe_port.files import TEXT, seems_to_be
from caffe_port.proto import read_net
from caffe_port.weights import read_weights

NET = 'input: "x" input_shape { dim: 1 dim: 3 } '
NET += 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
WRONG = {
    "web page": (b"\n<!DOCTYPE html><html></html>", "a web page, perhaps from a failed download"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer, not the file it refers to: run git lfs pull",
    ),
    "utf-16": (NET.encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "utf-16 without a mark": (NET.encode("utf-16-le"), "text in UTF-16: save it as UTF-8"),
    "utf-16, big end first": (NET.encode("utf-16-be"), "text in UTF-16: save it as UTF-8"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "a gzip archive: unpack it first"),
}
KINDS = pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)


def said(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@KINDS
def test_as_a_prototxt_and_as_weights_in_every_command(
    tmp_path: Path, content: bytes, words: str
) -> None:
    net, wrong, new = tmp_path / "net.prototxt", tmp_path / "wrong", tmp_path / "new.pt"
    net.write_text(NET)
    wrong.write_bytes(content)
    assert seems_to_be(content) == words
    for command in (
        ["inspect", wrong],
        ["convert", wrong, net, "-o", new],
        ["convert", net, wrong, "-o", new],
        ["upgrade", wrong, new],
    ):
        message = said(*command)
        assert words in message
        assert str(wrong) in message
    with pytest.raises(FormatError, match="the file seems to be"):
        read_net(wrong)
    with pytest.raises(FormatError, match="the file seems to be"):
        read_weights(wrong)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_holds_the_weights(tmp_path: Path, kind: int) -> None:
    wrong, net = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    net.write_text(NET)
    with zipfile.ZipFile(wrong, "w", kind) as archive:
        for name in ("net.caffemodel", "a.txt", "b.txt", "c.txt"):
            archive.writestr(name, b"content")
    words = "a zip archive of 4 files (net.caffemodel, a.txt, b.txt, ...), none of PyTorch's"
    for command in (["inspect", wrong], ["convert", net, wrong, "-o", tmp_path / "new.pt"]):
        assert words in said(*command)


def test_a_merge_conflict_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("# " + "x" * 5000 + "\n" + NET + "\n<<<<<<< HEAD\n=======\n>>>>>>> theirs\n")
    with pytest.raises(FormatError, match="line 3: a merge conflict that git left"):
        read_net(path)
    path.write_text("# <<<<<<< HEAD\n" + NET)
    assert read_net(path).layer[1].name == "r"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_list_in_utf_16(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("a.jpg a.png\nb.jpg b.png\n".encode(encoding))
    with pytest.raises(DataError, match=r"seems to be text in UTF-16: save it as UTF-8"):
        list(list_lines(path))


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\x0a\x03net\x12\x04\x00\x00\x00\x00"])
def test_an_unknown_file_has_no_name(content: bytes) -> None:
    assert seems_to_be(content) == ""
    assert seems_to_be(b"ab") == TEXT
