"""Databases written here, read by LMDB's own library and by our reader."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest

from caffe_port.data.lmdb import LmdbFile, write_lmdb
from caffe_port.errors import DataError, UsageError

Records = list[tuple[bytes, bytes]]
SIZES = (0, 1, 5, 100, 2000, 2020, 2037, 2038, 4079, 4080, 4081, 5000, 70_000)


def records(count: int, largest: int) -> Records:
    draw = random.Random(count)
    sizes = [size for size in SIZES if size <= largest]
    return [
        (b"%08d_%s" % (i, b"x" * draw.randrange(60)), draw.randbytes(draw.choice(sizes)))
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "largest"), [(1, 100), (2, 5000), (40, 70_000), (700, 5000), (20_000, 100)]
)
def test_lmdb_reads_what_was_written(tmp_path: Path, count: int, largest: int) -> None:
    given = records(count, largest)
    assert write_lmdb(tmp_path / "db", given) == count
    with lmdb.open(str(tmp_path / "db"), readonly=True) as environment:
        with environment.begin() as reading:
            assert [(bytes(k), bytes(v)) for k, v in reading.cursor()] == given
            for key, value in given[:: max(1, count // 50)]:
                assert reading.get(key) == value
        assert environment.stat()["entries"] == count
    assert list(LmdbFile(tmp_path / "db")) == given


def test_lmdb_can_write_into_it(tmp_path: Path) -> None:
    given = records(700, 5000)
    write_lmdb(tmp_path / "db", given)
    with lmdb.open(str(tmp_path / "db"), map_size=2**24) as environment:
        with environment.begin(write=True) as writing:
            writing.put(b"zz", b"new")
            writing.delete(given[0][0])
        with environment.begin() as reading:
            found = [(bytes(k), bytes(v)) for k, v in reading.cursor()]
    assert found == [*given[1:], (b"zz", b"new")]


def test_keys_as_long_as_can_be(tmp_path: Path) -> None:
    given = [(b"%04d" % i + b"k" * 507, b"v" * 30) for i in range(300)]
    write_lmdb(tmp_path / "db", given)
    with lmdb.open(str(tmp_path / "db"), readonly=True) as environment, environment.begin() as t:
        assert [(bytes(k), bytes(v)) for k, v in t.cursor()] == given


def test_an_empty_database(tmp_path: Path) -> None:
    assert write_lmdb(tmp_path / "db", []) == 0
    with lmdb.open(str(tmp_path / "db"), readonly=True) as environment:
        assert environment.stat()["entries"] == 0
    with pytest.raises(DataError, match="empty"):
        LmdbFile(tmp_path / "db")


@pytest.mark.parametrize(
    ("keys", "message"),
    [([b"b", b"a"], "keys must ascend"), ([b"a", b"a"], "keys must ascend"),
     ([b""], "0 bytes; expected 1 to 511"), ([b"x" * 512], "512 bytes")],
)  # fmt: skip
def test_keys_that_are_refused_leave_nothing(
    tmp_path: Path, keys: list[bytes], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_lmdb(tmp_path / "db", [(key, b"") for key in keys])
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        write_lmdb(tmp_path / "db", [])
    assert list((tmp_path / "db").iterdir()) == []
