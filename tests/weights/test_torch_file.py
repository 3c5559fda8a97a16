"""The .pt format: plain, safe to load, and sharing what is shared."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_port.errors import FormatError
from caffe_port.weights import StoredBlob, StoredLayer, read_weights
from caffe_port.weights.torch_file import read_torch, write_torch
from tests.weights.making import array, layer, same_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.pt"


def content(**changes: Any) -> dict[str, Any]:
    """What write_torch saves, with some entries changed."""
    whole: dict[str, Any] = {
        "format": "caffe_port", "version": 1, "name": "", "prototxt": None, "metadata": {},
        "layers": [["a", "Convolution", ["a.weight"]]], "legacy": [],
        "state_dict": {"a.weight": torch.ones(2, 3)},
    }  # fmt: skip
    return whole | changes


def test_what_is_inside(path: Path) -> None:
    write_torch(path, [layer("conv", array(2, 3), array(2)), layer("relu", type="ReLU")],
                name="net", prototxt="text", metadata={"phase": "TEST"})  # fmt: skip
    inside = torch.load(path, weights_only=True)
    tensors = inside.pop("state_dict")
    assert inside == {
        "format": "caffe_port", "version": 1, "name": "net", "prototxt": "text",
        "metadata": {"phase": "TEST"}, "legacy": [],
        "layers": [["conv", "Convolution", ["conv.weight", "conv.bias"]], ["relu", "ReLU", []]],
    }  # fmt: skip
    assert list(tensors) == ["conv.weight", "conv.bias"]
    assert same_bits(tensors["conv.weight"].numpy(), array(2, 3))


def test_minimal_content_is_read(path: Path) -> None:
    torch.save(content(), path)
    (only,) = read_torch(path).layers
    assert only.blobs[0].data.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_parameters_of_a_module_are_written_as_they_are(path: Path) -> None:
    module = torch.nn.Conv2d(3, 4, 2)
    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    blobs = tuple(StoredBlob(p.detach().numpy(), name=n) for n, p in module.named_parameters())
    write_torch(path, [StoredLayer("conv", "Convolution", blobs)])
    tensors = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(tensors["conv.weight"], module.weight)


def test_sharing_is_kept(path: Path) -> None:
    weight = array(100, 100)
    write_torch(path, [layer("a", weight), layer("b", weight), layer("c", weight.copy())])
    tensors = torch.load(path, weights_only=True)["state_dict"]
    assert tensors["a.weight"].data_ptr() == tensors["b.weight"].data_ptr()
    assert tensors["a.weight"].data_ptr() != tensors["c.weight"].data_ptr()
    again = path.with_name("again.pt")
    write_torch(again, read_torch(path).layers)
    assert abs(again.stat().st_size - path.stat().st_size) < 1000
    assert 2 * weight.nbytes < path.stat().st_size < 2.5 * weight.nbytes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "other"}, "only files written by caffe_port do"),
        ({"version": 2}, "it has version 2, this program reads 1"),
        ({"state_dict": []}, "no state_dict"),
        ({"name": 3}, "not strings"),
        ({"prototxt": b"x"}, "not strings|cannot load it safely"),  # torch 2.4 refuses bytes itself
        ({"metadata": {"a": 1}}, "not a dict of strings"),
        ({"metadata": []}, "not a dict of strings"),
        ({"legacy": None}, "are not lists"),
        ({"layers": "a"}, "are not lists"),
        ({"layers": [["a", "Convolution"]]}, r"not \[name, type, \[keys\]\]"),
        ({"layers": [["a", 1, []]]}, r"not \[name, type, \[keys\]\]"),
        ({"layers": []}, "'a.weight' does not belong to a layer"),
        ({"layers": [["a", "", ["a.bias"]]]}, "lists the tensor 'a.bias'"),
        ({"layers": [["b", "", ["a.weight"]]]}, "which is not its own"),
        ({"layers": [["a", "", ["a.weight"]]] * 2}, "which is not its own"),
        ({"layers": [["a", "", ["a.weight"] * 2]]}, "listed before"),
        ({"legacy": ["a.weight"]}, "has not four axes"),
        ({"state_dict": {"a.weight": 1}}, "'a.weight' is not a dense tensor"),
        ({"state_dict": {"a.weight": torch.ones(3).half()}}, "is torch.float16"),
        ({"state_dict": {"a.weight": torch.ones(3).long()}}, "is torch.int64"),
        ({"state_dict": {"a.weight": torch.eye(3).to_sparse()}}, "not a dense tensor"),
        ({"state_dict": {"a.weight": torch.empty(3, device="meta")}}, "on meta"),
        ({"state_dict": {"a.weight": torch.ones(1).expand(1 << 40)}}, "is not contiguous"),
        ({"state_dict": {"a.weight": torch.ones(2, 3).T}}, "is not contiguous"),
    ],
)
def test_refused_arguments(path: Path, changes: dict[str, Any], match: str) -> None:
    torch.save(content(**changes), path)
    with pytest.raises(FormatError, match=match) as caught:
        read_torch(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("other", [{"conv.weight": torch.ones(3)}, [1, 2], torch.ones(2)])
def test_files_of_other_programs(path: Path, other: object) -> None:
    torch.save(other, path)
    with pytest.raises(FormatError, match=r"only files written by|expected a dict"):
        read_weights(path)


class Runs:
    """Unpickling it would make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(path: Path, zipped: bool) -> None:
    marker = path.with_name("marker")
    torch.save(content(metadata=Runs(marker)), path, _use_new_zipfile_serialization=zipped)
    match = r"needs (io|_io)\.open to be run" if zipped else "a Python pickle, which is not opened"
    with pytest.raises(FormatError, match=match) as caught:
        read_weights(path)
    assert "weights_only" not in str(caught.value)
    assert not marker.exists()


def test_a_module_saved_whole_is_refused(path: Path) -> None:
    torch.save(torch.nn.ReLU(), path)
    with pytest.raises(FormatError, match="to be run"):
        read_torch(path)


def rewrite(path: Path, change: Callable[[bytes], bytes], compression: int = 0) -> None:
    """Rewrites the archive with another pickle."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)
    path.write_bytes(memory.getvalue())


SIZES = b"K\x02K\x03\x86"  # the pickled tuple (2, 3)
STORED = b"K\x06"  # the storage's six elements


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (STORED, b"J\xff\xff\xff\x7f"),
        (STORED, b"K\x07"),
        (SIZES, b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86"),
        (SIZES, b"K\x02K\x04\x86"),
        (b"QK\x00", b"QJ\x00\x00\x00\x40"),
        (b"QK\x00", b"QJ\xff\xff\xff\xff"),
    ],
    ids=["storage", "one more", "shape", "one column more", "offset", "negative offset"],
)
def test_lying_sizes(path: Path, old: bytes, new: bytes) -> None:
    torch.save(content(), path)
    rewrite(path, lambda data: data)
    assert len(read_torch(path).layers) == 1

    def change(data: bytes) -> bytes:
        assert data.count(old) == 1
        return data.replace(old, new)

    rewrite(path, change)
    with pytest.raises(FormatError, match=r"claim more|cannot load it safely"):
        read_torch(path)


def test_compressed_archives_are_refused(path: Path) -> None:
    torch.save(content(), path)
    rewrite(path, lambda data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="compressed, as torch's are not"):
        read_weights(path)


def test_cut_and_changed_files(path: Path) -> None:
    write_torch(path, [layer("conv", array(2, 3))])
    data = path.read_bytes()
    other = path.with_name("other.pt")
    for size in range(0, len(data), 37):
        other.write_bytes(data[:size])
        with pytest.raises(FormatError):
            read_torch(other)
    outcomes = set()
    for at in range(0, len(data), 11):
        other.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            outcomes.add(read_torch(other).format)
        except FormatError:
            outcomes.add("refused")
    assert outcomes == {"pt", "refused"}


def test_one_model_gives_one_file(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        write_torch(tmp_path / name, [layer("conv1", array(2, 3))])
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
