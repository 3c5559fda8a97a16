"""LevelDB databases: Caffe's own, ours, damaged ones, and those that are open already."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caffe_port.data.database import open_database, write_database
from caffe_port.data.leveldb import LevelDbFile, write_leveldb
from caffe_port.data.lmdb import LmdbFile
from caffe_port.errors import DataError, LayerError, UsageError
from caffe_port.live.net import TEST, Net
from tests.goldens_dir import GOLDENS

plyvel = pytest.importorskip("plyvel")

EXAMPLES = GOLDENS / "programs" / "examples"
RECORDS = [(b"%08d" % i, bytes([i % 256]) * (i * 7 % 300)) for i in range(2500)]


@pytest.fixture
def caffes(tmp_path: Path) -> Path:
    """A copy of the recorded database, since LevelDB writes also when it reads."""
    return Path(shutil.copytree(EXAMPLES / "mnist_leveldb", tmp_path / "caffes"))


def test_caffes_database_has_the_records_of_its_lmdb(caffes: Path) -> None:
    records = list(LevelDbFile(caffes))
    assert records == list(LmdbFile(EXAMPLES / "mnist_lmdb"))
    assert len(records) == 25


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert write_leveldb(tmp_path / "db", reversed(RECORDS)) == 2500
    database = LevelDbFile(tmp_path / "db")
    assert list(database) == RECORDS
    assert list(database) == RECORDS  # again, from the start
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db"]


def test_a_database_can_be_converted(caffes: Path, tmp_path: Path) -> None:
    write_database(tmp_path / "lmdb", LevelDbFile(caffes), "LMDB")
    assert list(LmdbFile(tmp_path / "lmdb")) == list(open_database(caffes, "LevelDB"))


def test_readers_in_one_process_share_it_and_the_last_closes_it(tmp_path: Path) -> None:
    write_leveldb(tmp_path / "db", RECORDS)
    first, second = LevelDbFile(tmp_path / "db"), LevelDbFile(tmp_path / "." / "db")
    assert next(iter(first)) == next(iter(second)) == RECORDS[0]
    with pytest.raises(plyvel.IOError):
        plyvel.DB(str(tmp_path / "db"))
    del first
    assert list(second) == RECORDS
    del second
    plyvel.DB(str(tmp_path / "db")).close()


def test_one_that_another_process_has_open(tmp_path: Path) -> None:
    write_leveldb(tmp_path / "db", RECORDS)
    script = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); input()"
    command = [sys.executable, "-c", script, str(tmp_path / "db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(DataError, match=r"LOCK.*one process at a time"):
                LevelDbFile(tmp_path / "db")
        finally:
            other.communicate(b"\n")
    assert list(LevelDbFile(tmp_path / "db")) == RECORDS


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[bytes, bytes]]:
        yield from RECORDS
        raise DataError("the image is broken")

    with pytest.raises(DataError, match="the image is broken"):
        write_leveldb(tmp_path / "db", failing())
    assert not list(tmp_path.iterdir())
    (tmp_path / "db").mkdir()
    with pytest.raises(UsageError, match="db: exists already"):
        write_leveldb(tmp_path / "db", RECORDS)


def test_damaged_and_missing_databases(tmp_path: Path, caffes: Path) -> None:
    (table,) = caffes.glob("*.ldb")
    whole = table.read_bytes()
    table.write_bytes(whole[:100] + bytes(20) + whole[120:])
    with pytest.raises(DataError, match="caffes: the database is empty, or all of it is damaged"):
        LevelDbFile(caffes)
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="caffes: "):
        list(LevelDbFile(caffes))
    with pytest.raises(DataError, match="not a LevelDB, which has a file CURRENT"):
        LevelDbFile(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    write_leveldb(tmp_path / "empty", [])
    with pytest.raises(DataError, match="empty: the database is empty,"):
        LevelDbFile(tmp_path / "empty")


@pytest.mark.parametrize("place", [10, 0.3, 0.7])
def test_a_damaged_block_among_others_is_an_error(tmp_path: Path, place: float) -> None:
    write_leveldb(tmp_path / "db", [(b"%04d" % i, bytes([i % 251]) * 5000) for i in range(100)])
    for _ in LevelDbFile(tmp_path / "db"):  # opened, LevelDB makes a table of its log
        break
    (table,) = (tmp_path / "db").glob("*.ldb")
    whole = bytearray(table.read_bytes())
    whole[int(place if place > 1 else place * len(whole))] ^= 0x55
    table.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"db: Corruption.*the database is damaged"):
        list(LevelDbFile(tmp_path / "db"))


@pytest.mark.parametrize(("folder", "backend"), [("lmdb", "leveldb"), ("leveldb", "lmdb")])
def test_a_database_of_the_other_kind(tmp_path: Path, folder: str, backend: str) -> None:
    write_database(tmp_path / "db", RECORDS, folder)
    message = f"holds a database of kind {folder}, but the backend is {backend}; choose {folder}"
    with pytest.raises(DataError, match=message):
        open_database(tmp_path / "db", backend)
    with pytest.raises(UsageError, match="the backend is 'sqlite'; expected lmdb or leveldb"):
        open_database(tmp_path / "db", "sqlite")


def test_without_plyvel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caffes: Path) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    for call in (lambda: LevelDbFile(caffes), lambda: write_leveldb(tmp_path / "db", RECORDS)):
        with pytest.raises(UsageError, match=r"caffe-port\[leveldb\].*set backend: LMDB"):
            call()


def test_a_data_layer_reads_it_by_default(caffes: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    text = 'layer {{ name: "d" type: "Data" top: "x" top: "y" data_param {{ {} batch_size: 4 }} }}'
    path.write_text(text.format(f'source: "{caffes}"'))
    net = Net(path, TEST)
    other = tmp_path / "other.prototxt"
    other.write_text(text.format(f'source: "{EXAMPLES}/mnist_lmdb" backend: LMDB'))
    theirs = Net(other, TEST)
    for _ in range(8):  # once round the 25 records
        net.forward()
        theirs.forward()
        np.testing.assert_array_equal(net.blobs["x"].data, theirs.blobs["x"].data)
        np.testing.assert_array_equal(net.blobs["y"].data, theirs.blobs["y"].data)
    path.write_text(text.format(f'source: "{EXAMPLES}/mnist_lmdb"'))
    with pytest.raises(LayerError, match=r"layer 'd' .*of kind lmdb, but the backend is leveldb"):
        Net(path, TEST)


def test_a_reader_that_is_collected_in_a_cycle(tmp_path: Path) -> None:
    """plyvel's own objects end the process there."""
    write_leveldb(tmp_path / "db", RECORDS)
    script = (
        "import gc, sys\n"
        "from caffe_port.data.leveldb import LevelDbFile\n"
        "class Reader: pass\n"
        "for _ in range(5):\n"
        "    reader = Reader()\n"
        "    reader.me, reader.file = reader, LevelDbFile(sys.argv[1])\n"
        "    reader.records = iter(reader.file)\n"
        "    next(reader.records)\n"
        "    del reader\n"
        "    gc.collect()\n"
        "    spoiled = [bytes(1000) for _ in range(10000)]\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
