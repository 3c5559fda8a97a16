"""Caffe's HDF5 weights, and HDF5 files that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import caffe_port
from caffe_port.errors import FormatError, UsageError
from caffe_port.weights import StoredBlob, StoredLayer, read_weights
from caffe_port.weights.hdf5 import read_hdf5, write_hdf5
from tests.goldens_dir import ROOT
from tests.weights.making import array, assert_same_layers, layer, same_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.caffemodel.h5"


def conv(file: h5py.File) -> Any:
    return file.create_group("data").create_group("conv")


def test_caffes_layout(path: Path) -> None:
    blobs = (StoredBlob(array(2, 3), diff=array(2, 3, seed=1)), StoredBlob(array(2)))
    write_hdf5(path, [StoredLayer("conv", "Convolution", blobs), StoredLayer("relu", "ReLU")])
    with h5py.File(path) as file:
        assert set(file) == {"data", "diff"}
        assert set(file["data"]) == set(file["diff"]) == {"conv", "relu"}
        assert len(file["data/relu"]) == 0
        assert same_bits(file["data/conv/0"][()], array(2, 3))
        assert same_bits(file["diff/conv/0"][()], array(2, 3, seed=1))
        assert file["data/conv/1"].dtype == "<f4"
    back = read_hdf5(path).layers
    assert back[0].blobs[0].diff is not None
    assert same_bits(np.array(back[0].blobs[0].diff), array(2, 3, seed=1))
    assert back[0].blobs[1].diff is None


def test_layers_are_views(path: Path) -> None:
    write_hdf5(path, [layer("conv", array(2, 3))])
    data = read_hdf5(path).layers[0].blobs[0].data
    assert not data.flags.owndata
    assert not data.flags.writeable


def test_a_shared_parameter_is_stored_with_its_owner_only(path: Path) -> None:
    weight, bias, own = array(2, 3), array(2), array(2, seed=5)
    layers = [layer("a", weight, bias), layer("b", weight, bias), layer("c", weight, own)]
    write_hdf5(path, layers)
    with h5py.File(path) as file:
        assert [sorted(file["data"][name]) for name in "abc"] == [["0", "1"], [], ["1"]]
    a, b, c = read_hdf5(path).layers
    assert (len(a.blobs), a.indices, len(b.blobs), b.indices) == (2, (), 0, ())
    assert [index for index, _ in c.numbered()] == [1]
    assert same_bits(c.blobs[0].aligned(), own)
    again = path.with_name("again.h5")
    write_hdf5(again, [a, b, c])
    assert [x.indices for x in read_hdf5(again).layers] == [(), (), (1,)]


def test_blobs_are_in_the_order_of_their_numbers(path: Path) -> None:
    blobs = [array(1, seed=i) for i in range(12)]
    write_hdf5(path, [layer("lstm", *blobs)])
    assert_same_layers(read_hdf5(path).layers, [layer("lstm", *blobs, type="")])


def test_hard_links_are_read_once(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = conv(file)
        group["0"] = array(1000)
        for index in range(1, 50):
            group[str(index)] = group["0"]
    blobs = read_hdf5(path).layers[0].blobs
    assert len(blobs) == 50
    assert np.shares_memory(blobs[0].data, blobs[49].data)


def test_other_encodings_of_the_same_numbers(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = conv(file)
        group.create_dataset("0", data=array(4, 4).astype(">f4"))
        group.create_dataset("1", data=array(4, 4), chunks=(2, 2))
    for blob in read_hdf5(path).layers[0].blobs:
        assert same_bits(blob.aligned(), array(4, 4))


def soft(file: h5py.File) -> None:
    file["elsewhere"] = array(3)
    conv(file)["0"] = h5py.SoftLink("/elsewhere")


def external(file: h5py.File) -> None:
    conv(file)["0"] = h5py.ExternalLink("other.h5", "/secret")


def external_group(file: h5py.File) -> None:
    file["data"] = h5py.ExternalLink("other.h5", "/")


def soft_layer(file: h5py.File) -> None:
    file.create_group("data")["conv"] = h5py.SoftLink("/data")


def external_values(file: h5py.File) -> None:
    values = Path(file.filename).with_name("values.bin")
    values.write_bytes(bytes(8))
    conv(file).create_dataset("0", (2,), "f4", external=[(str(values), 0, 8)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (2,))
    conv(file).create_virtual_dataset("0", layout)


def claims_much(file: h5py.File) -> None:
    conv(file).create_dataset("0", (1 << 40,), "f4")


def sparse(file: h5py.File) -> None:
    dataset = conv(file).create_dataset("0", (1 << 40,), "f4", chunks=(1 << 10,))
    dataset[:4] = 1


def compressed(file: h5py.File) -> None:
    conv(file).create_dataset("0", data=np.zeros(1 << 20, "f4"), compression="gzip")


def half(file: h5py.File) -> None:
    conv(file)["0"] = array(3, dtype="f2")


def integers(file: h5py.File) -> None:
    conv(file)["0"] = np.arange(3)


def strings(file: h5py.File) -> None:
    conv(file)["0"] = "text"


def compound(file: h5py.File) -> None:
    conv(file)["0"] = np.zeros(3, [("a", "f4"), ("b", "f4")])


def null(file: h5py.File) -> None:
    conv(file)["0"] = h5py.Empty("f4")


def named_by_word(file: h5py.File) -> None:
    conv(file)["weight"] = array(3)


def named_oddly(file: h5py.File) -> None:
    conv(file)["00"] = array(3)


def blob_as_layer(file: h5py.File) -> None:
    file.create_group("data")["conv"] = array(3)


def no_data(file: h5py.File) -> None:
    file.create_group("model_weights")


def no_layers(file: h5py.File) -> None:
    file.create_group("data")


def wrong_diff(file: h5py.File) -> None:
    conv(file)["0"] = array(3)
    file["diff/conv/0"] = array(4)


@pytest.mark.parametrize(
    ("fill", "match"),
    [
        (soft, "/data/conv/0 is a soft or external link"),
        (external, "/data/conv/0 is a soft or external link"),
        (external_group, "/data is a soft or external link"),
        (soft_layer, "/data/conv is a soft or external link"),
        (external_values, "keeps its values in other files"),
        (virtual, "keeps its values in other files"),
        (claims_much, r"claims \(1099511627776,\)"),
        (sparse, r"claims \(1099511627776,\)"),
        (compressed, "sparse or compressed"),
        (half, "/data/conv/0 is float16"),
        (integers, "is int64"),
        (strings, "expected float32 or float64"),
        (compound, "expected float32 or float64"),
        (null, "has no shape"),
        (named_by_word, "/data/conv/weight is not named by a number"),
        (named_oddly, "/data/conv/00 is not named by a number"),
        (blob_as_layer, "/data/conv is not a group"),
        (no_data, r"no group /data.*found \['model_weights'\]"),
        (no_layers, "holds no layers"),
        (wrong_diff, r"/diff/conv/0 is \(4,\), its blob is \(3,\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refused_arguments(path: Path, fill: Any, match: str) -> None:
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["secret"] = array(2)
    with h5py.File(path, "w") as file:
        fill(file)
    with pytest.raises(FormatError, match=match) as caught:
        read_hdf5(path)
    assert caught.value.path == str(path)


def test_cut_files(path: Path) -> None:
    write_hdf5(path, [layer("conv", array(20, 30), array(20)), layer("relu")])
    data = path.read_bytes()
    cut = path.with_name("cut.h5")
    for size in [*range(64), *range(64, len(data), 61)]:
        cut.write_bytes(data[:size])
        with pytest.raises(FormatError):
            read_hdf5(cut)


def test_changed_bytes_are_read_or_refused(path: Path) -> None:
    write_hdf5(path, [layer("conv", array(2, 3), array(2))])
    data = bytearray(path.read_bytes())
    changed = path.with_name("changed.h5")
    outcomes = set()
    for at in range(0, len(data), 7):
        data[at] ^= 0xFF
        changed.write_bytes(data)
        data[at] ^= 0xFF
        try:
            layers = read_hdf5(changed).layers
        except FormatError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            assert sum(b.data.nbytes for x in layers for b in x.blobs) <= len(data)
    assert outcomes == {"read", "refused"}


def test_text_is_recognized(path: Path) -> None:
    path.write_text('name: "net"\n')
    with pytest.raises(FormatError, match="seems to be text"):
        read_hdf5(path)


@pytest.mark.parametrize("name", ["", ".", "..", "inception_3a/1x1", "a\0b"])
def test_names_that_are_not_groups(path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a group"):
        write_hdf5(path, [layer(name, array(3))])
    assert not path.exists()


def test_what_cannot_be_written(path: Path) -> None:
    with pytest.raises(UsageError, match="two layers with blobs of their own are named 'a'"):
        write_hdf5(path, [layer("a", array(1)), layer("a", array(1))])
    legacy = StoredLayer("a", "", (StoredBlob(array(1, 1, 1, 3), legacy=True),))
    with pytest.raises(UsageError, match="legacy 4-D shape"):
        write_hdf5(path, [legacy])
    assert not path.exists()


def test_layers_inside_one_another_as_caffe_wrote_them() -> None:
    """Real Caffe wrote both files for layers named conv, conv/bn, conv/bn/scale, conv/relu.

    Caffe itself cannot read the HDF5 one again: it takes the groups in conv for blobs.
    """
    folder = ROOT / "tests" / "weights" / "nested_hdf5"
    stored = {layer.name: layer for layer in read_hdf5(folder / "net.caffemodel.h5").layers}
    binary = read_weights(folder / "net.caffemodel").layers
    assert sorted(stored) == sorted(one.name for one in binary)
    for one in binary:
        for wanted, found in zip(one.blobs, stored[one.name].blobs, strict=True):
            assert same_bits(wanted.data, found.data)
    net = caffe_port.load(folder / "net.prototxt", folder / "net.caffemodel.h5")
    assert net.get_parameter("conv/bn/scale.bias").tolist() == [22, 22]


def test_groups_inside_one_another_have_an_end(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("data/conv")
        group["again"] = group
    with pytest.raises(FormatError, match="groups are nested over 100 deep"):
        read_hdf5(path)
    with h5py.File(path, "w") as file:
        file.create_group("data/conv")["bn"] = h5py.SoftLink("/data")
    with pytest.raises(FormatError, match="/data/conv/bn is a soft or external link"):
        read_hdf5(path)
