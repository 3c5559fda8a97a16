"""Recordings are read whole and lazily, or refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from caffe_port.errors import FormatError
from caffe_port.parity.recording import read_recording
from tests.parity.fake import write_folder

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def folder(tmp_path, members, fields='{"phase": "TEST"}'):
    """A golden folder made of raw bytes."""
    with zipfile.ZipFile(tmp_path / "case.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    (tmp_path / "case.json").write_text(fields)
    return tmp_path


def hdf5(path, arrays=None, *, checksum=True, **changes):
    """A file as tools/record_caffe.py writes it."""
    attributes = {
        "format": "caffe recording",
        "version": "1",
        "meta": '{"phase": "TEST"}',
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value)
        for name, array in ({"data/x": ONE} if arrays is None else arrays).items():
            dataset = file.create_dataset(name, data=array)
            if checksum:
                checksum = hashlib.sha256(np.asarray(array).tobytes()).hexdigest()
                dataset.attrs["sha256"] = np.bytes_(checksum)
    return path


def test_golden_folder(tmp_path):
    arrays = {
        "input/data": ONE,
        "data/a/b": ONE + 1,
        "param/conv/1x1/0": ONE + 2,
        "pdiff/conv/1x1/0": ONE + 3,
        "after/bn/2": ONE + 4,
        "diff/a/b": ONE + 5,
        "topdiff/a/b": np.float32(7),
    }
    path = write_folder(tmp_path, arrays, phase="TRAIN", blobs_kept="chosen", versions={"caffe": 1})
    found = read_recording(path)
    assert (found.meta.phase, found.meta.backward, found.meta.complete) == ("TRAIN", True, False)
    assert found.meta.versions == {"caffe": "1"}
    assert np.array_equal(found.data["a/b"], ONE + 1)
    assert np.array_equal(found.params["conv/1x1", 0], ONE + 2)
    assert list(found.after) == [("bn", 2)]
    assert found.topdiffs["a/b"].shape == ()
    assert "nothing" not in found.data


def test_the_current_folder_has_a_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path / "cat", {"data/x": ONE}))
    assert read_recording(".").name == "cat"


def test_arrays_are_read_when_they_are_asked_for(tmp_path):
    found = read_recording(write_folder(tmp_path, {"data/x": ONE}))
    np.savez(tmp_path / "case.npz", **{"data/x": ONE * 2})
    assert np.array_equal(found.data["x"], ONE * 2)
    assert found.data["x"] is not found.data["x"]


@pytest.mark.parametrize(
    "fields",
    ["", "[1]", "{", "{}", '{"phase": "train"}', '{"phase": "TEST", "backward": "yes"}',
     '{"phase": "TEST", "versions": 3}', "[" * 100_000],
)  # fmt: skip
def test_malformed_json(tmp_path, fields):
    with pytest.raises(FormatError, match=r"case\.json"):
        read_recording(folder(tmp_path, {"data/x.npy": npy(ONE)}, fields))


def headers(shape, descr="<f4"):
    stream = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data/x.npy", npy(ONE.astype("f8")), "float64"),
        ("data/x.npy", npy(np.array([{}], object)), "dtype object"),
        ("data/x.npy", npy(ONE)[:-1], "does not fit its"),
        ("data/x.npy", npy(ONE) + b"0", "does not fit its"),
        ("data/x.npy", headers((2**40, 2**20)), "does not fit its"),
        ("data/x.npy", headers((-1, -6)) + ONE.tobytes(), "does not fit its"),
        ("data/x.npy", b"\x93NUMPY\x09\x00", "version"),
        ("data/x.npy", b"", "npz"),
        ("data/x.npy", b"no array at all", "npz"),
        ("data/x.txt", npy(ONE), "not an array"),
        ("data.npy", npy(ONE), "'data'"),
        ("weird/x.npy", npy(ONE), "'weird/x'"),
        ("param/conv.npy", npy(ONE), "param/conv"),
        ("param/conv/first.npy", npy(ONE), "'first'"),
        ("input/x.npy", npy(ONE), "no blob was recorded"),
    ],
)
def test_malformed_members(tmp_path, name, content, reason):
    with pytest.raises(FormatError, match=reason):
        read_recording(folder(tmp_path, {name: content}))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_never_loaded(tmp_path):
    target = tmp_path / "executed"
    content = headers((1,), "|O") + pickle.dumps([Bomb(target)])
    with pytest.raises(FormatError):
        read_recording(folder(tmp_path, {"data/x.npy": content}))
    assert not target.exists()


def test_archive_cut_anywhere(tmp_path):
    path = folder(tmp_path, {"data/x.npy": npy(ONE)})
    whole = (path / "case.npz").read_bytes()
    for length in range(len(whole)):
        (path / "case.npz").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_recording(path)


def test_damaged_values_are_found_when_they_are_read(tmp_path):
    path = folder(tmp_path, {"data/x.npy": npy(np.ones(1000, np.float32))})
    whole = bytearray((path / "case.npz").read_bytes())
    found = read_recording(path)
    start = whole.index(b"data/x.npy") + len("data/x.npy")
    whole[start + 60 : start + 70] = b"\x00" * 10
    (path / "case.npz").write_bytes(whole)
    with pytest.raises(FormatError, match=r"data/x\.npy"):
        found.data["x"]


def test_missing_files(tmp_path):
    with pytest.raises(FormatError, match=r"case\.npz"):
        read_recording(tmp_path)
    with pytest.raises(FormatError, match="no such recording"):
        read_recording(tmp_path / "nothing")


def test_hdf5(tmp_path):
    arrays = {
        "input/data": ONE,
        "data/a%2Fb": ONE + 1,
        "data/%2E": ONE,
        "data/50%25": ONE,
        "param/conv%2F1x1/0": ONE + 2,
    }
    meta = {"phase": "TRAIN", "backward": True, "blobs_kept": "all", "versions": {"caffe": "1.0"}}
    found = read_recording(hdf5(tmp_path / "r.h5", arrays, meta=json.dumps(meta)))
    assert (found.meta.phase, found.meta.complete) == ("TRAIN", True)
    assert set(found.data) == {"a/b", ".", "50%"}
    assert np.array_equal(found.data["a/b"], ONE + 1)
    assert np.array_equal(found.params["conv/1x1", 0], ONE + 2)


def test_hdf5_scalar_and_empty_arrays(tmp_path):
    arrays = {"data/loss": np.float32(3), "data/none": np.zeros((0, 2), np.float32)}
    found = read_recording(hdf5(tmp_path / "r.h5", arrays))
    assert found.data["loss"].shape == ()
    assert found.data["none"].shape == (0, 2)


@pytest.mark.parametrize(
    ("arrays", "changes", "reason"),
    [
        (None, {"format": "other"}, "record_caffe"),
        (None, {"version": "2"}, "version '2'"),
        (None, {"meta": "{"}, "HDF5"),
        (None, {"meta": "[]"}, "JSON object"),
        (None, {"meta": "{}"}, "phase"),
        ({"data/x": ONE.astype("f8")}, {}, "float64"),
        ({"data/x": ONE.astype(">f4")}, {}, "float32"),
        ({"wrong/x": ONE}, {}, "unknown group 'wrong'"),
        ({"data": ONE}, {}, "expected a group"),
        ({"data/x/y": ONE}, {}, "expected a dataset"),
        ({"param/conv": ONE}, {}, "expected a group"),
        ({"param/conv/x": ONE, "data/x": ONE}, {}, "'x'"),
        ({"input/x": ONE}, {}, "no blob was recorded"),
    ],
)
def test_malformed_hdf5(tmp_path, arrays, changes, reason):
    with pytest.raises(FormatError, match=reason):
        read_recording(hdf5(tmp_path / "r.h5", arrays, **changes))


def test_hdf5_checksums(tmp_path):
    path = tmp_path / "r.h5"
    with pytest.raises(FormatError, match="sha256"):
        read_recording(hdf5(path, checksum=False))
    found = read_recording(hdf5(path))
    with h5py.File(path, "r+") as file:
        file["data/x"][1, 2] = 99
    with pytest.raises(FormatError, match="damaged"):
        found.data["x"]


def test_hdf5_texts_of_variable_length_are_refused(tmp_path):
    path = hdf5(tmp_path / "r.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["meta"] = '{"phase": "TEST"}'
    with pytest.raises(FormatError, match="fixed length"):
        read_recording(path)


def test_hdf5_that_leads_elsewhere(tmp_path):
    other = hdf5(tmp_path / "other.h5")
    for name, target in {
        "link": h5py.ExternalLink(str(other), "/data/x"),
        "soft": h5py.SoftLink("/data/x"),
    }.items():
        path = hdf5(tmp_path / f"{name}.h5")
        with h5py.File(path, "r+") as file:
            file[f"data/{name}"] = target
        with pytest.raises(FormatError, match="is a link"):
            read_recording(path)
    path = hdf5(tmp_path / "external.h5")
    with h5py.File(path, "r+") as file:
        file["data"].create_dataset("y", (2,), "<f4", external=[(str(other), 0, 8)])
    with pytest.raises(FormatError, match="another file"):
        read_recording(path)


def test_hdf5_that_claims_more_than_it_stores(tmp_path):
    path = hdf5(tmp_path / "r.h5")
    with h5py.File(path, "r+") as file:
        file["data"].create_dataset("huge", (2**30, 2**10), "<f4", chunks=(64, 64))
    with pytest.raises(FormatError, match="only few of its bytes"):
        read_recording(path)


def test_hdf5_cut_anywhere(tmp_path):
    path = hdf5(tmp_path / "r.h5")
    whole = path.read_bytes()
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_recording(path)
