"""LMDB databases: Caffe's own, written by the library, and damaged ones."""

from __future__ import annotations

import random
import struct

import lmdb
import pytest

from caffe_port.data.lmdb import LmdbFile
from caffe_port.errors import DataError
from tests.goldens_dir import SHAPES

CAFFES = SHAPES / "caffe_run/lmdb/db"


def write(path, records):
    with lmdb.open(str(path), map_size=2**26) as database, database.begin(write=True) as writing:
        for key, value in records.items():
            writing.put(key, value)


def test_a_database_of_caffes():
    records = list(LmdbFile(CAFFES))
    assert len(records) == 12
    assert records == list(LmdbFile(CAFFES / "data.mdb"))
    assert [key[:8] for key, _ in records] == [f"{i:08}".encode() for i in range(12)]
    assert all(len(value) > 40 * 32 * 3 for _, value in records)


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_records_come_whole_and_in_the_order_of_their_keys(tmp_path, count):
    sizes = random.Random(count)
    names = [f"{sizes.randrange(10**9)}-{i}".encode() for i in range(count)]
    records = {name: sizes.randbytes(sizes.choice([0, 1, 40, 3000, 20000])) for name in names}
    write(tmp_path / "db", records)
    assert list(LmdbFile(tmp_path / "db")) == sorted(records.items())


def test_the_newer_of_two_states_counts(tmp_path):
    for round_ in range(3):
        write(tmp_path / "db", {b"key": str(round_).encode()})
        assert list(LmdbFile(tmp_path / "db")) == [(b"key", str(round_).encode())]


def test_it_can_be_read_again_and_takes_no_lock(tmp_path):
    write(tmp_path / "db", {b"a": b"1", b"b": b"2"})
    (tmp_path / "db/lock.mdb").unlink()
    file = LmdbFile(tmp_path / "db")
    assert list(file) == list(file) == [(b"a", b"1"), (b"b", b"2")]
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["data.mdb"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as an LMDB database"),
        (b"", "cannot be read as an LMDB database"),
        (b"\0" * 100, "byte 0: the file ends before its meta page does"),
        (b"\0" * 8192, "byte 0: not a meta page"),
    ],
)
def test_files_that_are_not_databases(tmp_path, content, message):
    if content is not None:
        (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match=message):
        LmdbFile(tmp_path)


def test_an_empty_database(tmp_path):
    write(tmp_path / "db", {})
    with pytest.raises(DataError, match="the database is empty"):
        LmdbFile(tmp_path / "db")


def patched(tmp_path, offset, *parts):
    content = bytearray((CAFFES / "data.mdb").read_bytes())
    for part in parts:
        content[offset : offset + len(part)] = part
        offset += len(part)
    (tmp_path / "data.mdb").write_bytes(content)
    return tmp_path


PAGE = 4096
ROOT = 2 * PAGE  # a leaf with all twelve records, each of pages of its own


@pytest.mark.parametrize(
    ("offset", "patch", "message"),
    [
        (16 + 4, struct.pack("<I", 2), "byte 0: format 2 with pages of 4096 bytes"),
        (16 + 24, struct.pack("<I", 1000), "byte 0: format 1 with pages of 1000 bytes"),
        (PAGE + 16 + 24 + 88, struct.pack("<Q", 10**9), "is beyond the end"),
        (ROOT + 10, struct.pack("<H", 0), "byte 8192: neither a branch nor a leaf page"),
        (ROOT + 16, struct.pack("<H", 5), "a record at 5 in a page"),
        (ROOT + 16, struct.pack("<H", 4095), "a record at 4095 in a page"),
    ],
)
def test_damage_is_named(tmp_path, offset, patch, message):
    folder = patched(tmp_path, offset, patch)
    with pytest.raises(DataError, match=message):
        list(LmdbFile(folder))


def test_pages_that_lead_in_a_circle(tmp_path):
    # the root becomes a branch whose only child is itself
    node = struct.pack("<HHHH", 2, 0, 0, 0)
    folder = patched(tmp_path, ROOT + 10, struct.pack("<HHH", 1, 18, 18), struct.pack("<H", 18))
    content = bytearray((folder / "data.mdb").read_bytes())
    content[ROOT + 18 : ROOT + 18 + len(node)] = node
    (folder / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match="the pages form a cycle"):
        list(LmdbFile(folder))


def test_damaged_databases_end_in_an_error_or_in_records(tmp_path):
    whole, seed = (CAFFES / "data.mdb").read_bytes(), random.Random(4)
    failures = 0
    for trial in range(300):
        content = bytearray(whole)
        if trial % 3 == 0:
            del content[seed.randrange(len(content)) :]
        for _ in range(12):
            if content:
                place = seed.randrange(len(content)) // PAGE * PAGE + seed.randrange(80)
                content[min(place, len(content) - 1)] = seed.randrange(256)
        (tmp_path / "data.mdb").write_bytes(content)
        try:
            records = list(LmdbFile(tmp_path))
        except DataError:
            failures += 1
        else:
            assert sum(len(value) for _, value in records) < 10 * len(whole)
    assert failures > 100
