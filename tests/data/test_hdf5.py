"""HDF5 training data: rows in order, shuffled, over several files, and hostile files."""

from __future__ import annotations

import resource

import h5py
import numpy as np
import pytest

from caffe_port.data.hdf5 import Hdf5Reader, item_shapes, read_datasets, write_pair
from caffe_port.data.rng import CLibraryRandom
from caffe_port.errors import DataError


@pytest.fixture
def source(tmp_path):
    """Two files of 3 and 2 rows, numbered through, and a list of them."""
    start = 0
    for name, rows in (("a.h5", 3), ("b.h5", 2)):
        with h5py.File(tmp_path / name, "w") as file:
            numbers = np.arange(start, start + rows)
            file["data"] = np.broadcast_to(numbers[:, None, None], (rows, 2, 3)).astype("f4")
            file["label"] = numbers  # whole numbers are read as floats
        start += rows
    path = tmp_path / "list.txt"
    path.write_text(f"{tmp_path}/a.h5\n{tmp_path}/b.h5\n")
    return path


def labels(reader, batches):
    return [int(value) for _ in range(batches) for value in reader.next_batch()[1]]


def test_batches_run_across_files_and_round(source):
    reader = Hdf5Reader(source, ["data", "label"], 4)
    data, label = reader.next_batch()
    assert (data.shape, data.dtype, label.dtype) == ((4, 2, 3), np.float32, np.float32)
    assert data[:, 1, 2].tolist() == label.tolist() == [0, 1, 2, 3]
    assert labels(reader, 2) == [4, 0, 1, 2, 3, 4, 0, 1]
    assert item_shapes(source, ["label", "data"]) == [(), (2, 3)]


def expected_order(passes):
    """What upstream's loop gives with the C library's generator."""
    random, rows = CLibraryRandom(), {0: [0, 1, 2], 1: [3, 4]}
    files, order = [0, 1], []
    random.shuffle(files)
    for turn in range(passes):
        if turn:
            random.shuffle(files)
        for place, file in enumerate(files):
            now = list(rows[file])
            random.shuffle(now)
            if turn or place:  # upstream shuffles a file it turns to twice
                random.shuffle(now)
            order += now
    return order


def test_shuffled_files_and_rows(source):
    reader = Hdf5Reader(source, ["data", "label"], 5, CLibraryRandom())
    got = labels(reader, 4)
    assert got == expected_order(4)
    assert all(sorted(got[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 20, 5))


def test_one_file_is_shuffled_on_at_its_end(source):
    source.write_text(source.read_text().splitlines()[0])
    random, rows, want = CLibraryRandom(), [0, 1, 2], []
    for _ in range(3):
        random.shuffle(rows)
        want += rows
    random = CLibraryRandom()
    random.shuffle([0])  # the list of one file takes no draw
    assert labels(Hdf5Reader(source, ["data", "label"], 3, random), 3) == want


def test_packed_datasets_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((50, 1000)), compression="gzip")
    assert read_datasets(tmp_path / "a.h5", ["x"])[0].shape == (50, 1000)


def hostile(file, kind):
    if kind == "text":
        file["x"] = "words"
    elif kind == "scalar":
        file["x"] = 1.0
    elif kind == "empty":
        file.create_dataset("x", (0, 3), "f4")
    elif kind == "sparse":
        file.create_dataset("x", (2**20, 2**10), "f4", chunks=(1, 1024))
    elif kind == "huge":
        file.create_dataset("x", (2**40, 2**10), "f4", chunks=(1, 1024), compression="gzip")
    elif kind == "elsewhere":
        file.create_dataset("x", (10,), "u1", external=[("secret", 0, 10)])
    elif kind == "group":
        file.create_group("x")
    elif kind == "lengths":
        file["x"], file["y"] = np.zeros(3), np.zeros(4)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "dataset 'x': not found; the file has"),
        ("group", "dataset 'x': not found"),
        ("text", "holds object; expected numbers"),
        ("scalar", r"shape \(\), of which"),
        ("empty", r"shape \(0, 3\), of which 0 bytes are stored"),
        ("sparse", "of which 0 bytes are stored"),
        ("huge", "of which 0 bytes are stored"),
        ("elsewhere", "in other files, which is refused"),
        ("lengths", r"different lengths: \{'x': 3, 'y': 4\}"),
    ],
)
def test_hostile_files(tmp_path, kind, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        hostile(file, kind)
    with pytest.raises(DataError, match=message):
        read_datasets(tmp_path / "a.h5", ["x", "y"] if kind == "lengths" else ["x"])


@pytest.mark.parametrize("content", [None, b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_files_that_are_not_hdf5(tmp_path, content):
    if content is not None:
        (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5: cannot be read as HDF5"):
        read_datasets(tmp_path / "a.h5", ["x"])


def test_files_whose_rows_differ(source):
    with h5py.File(source.parent / "b.h5", "w") as file:
        file["data"], file["label"] = np.zeros((2, 4)), np.zeros(2)
    reader = Hdf5Reader(source, ["data", "label"], 3)
    reader.next_batch()
    with pytest.raises(DataError, match=r"b\.h5: rows of \[\(4,\), \(\)\]; the first file had"):
        reader.next_batch()
    with pytest.raises(DataError, match="cannot be read any further after an error"):
        reader.next_batch()


def test_writing_a_pair(tmp_path):
    data = np.random.default_rng(1).random((2, 3, 4, 5), np.float32)
    write_pair(tmp_path / "out.h5", data, np.array([1, 2], np.float32))
    got, label = read_datasets(tmp_path / "out.h5", ["data", "label"])
    np.testing.assert_array_equal(got, data)
    assert (label.shape, label.ravel().tolist()) == ((2, 1, 1, 1), [1, 2])


def test_a_failed_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "out.h5").write_text("old")
    with pytest.raises(TypeError):
        write_pair(tmp_path / "out.h5", np.zeros((1, 1, 1, 1), "f4"), np.array([object()]))
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert (tmp_path / "out.h5").read_text() == "old"


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    """libhdf5's own writing would raise what names no file, or end the process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match=r"out\.h5"):
            write_pair(tmp_path / "out.h5", np.zeros((9, 9, 9, 9), "f4"), np.zeros(9, "f4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
