"""Several processes that share one evaluation: the same result, and one error for all."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest
from torch.distributed import HashStore

from caffe_port import ranks as module
from caffe_port.data.voc import voc_items
from caffe_port.errors import UsageError
from caffe_port.ranks import RankError, SingleRank, StoreRanks, evaluation_ranks
from tests import preloaded
from tests.evaluation.standins import CROP, Brightest, Swaps, evaluate, make_voc
from tests.goldens_dir import ROOT


@pytest.fixture
def pair(monkeypatch):
    """Two ranks of one process."""
    monkeypatch.setattr(module, "_BEAT", 0.01)
    store = HashStore()
    ranks = [StoreRanks(store, i, 2, 2) for i in range(2)]
    yield ranks
    for one in ranks:
        one.leave()


def test_each_number_is_claimed_once_and_all_are_counted(pair):
    found = [[], []]

    def claim(i):
        for number in pair[i].claims(50):
            found[i].append(number)
            pair[i].finished()

    threads = [threading.Thread(target=claim, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found[0] + found[1]) == list(range(50))
    assert all(numbers == sorted(numbers) for numbers in found)
    assert pair[0].finished() == 51


def test_a_failure_reaches_the_others_with_its_message(pair):
    pair[1].fail("a.jpg: not an image")
    pair[1].fail("and again")
    with pytest.raises(RankError, match=r"failed: rank 1: a\.jpg: not an image"):
        pair[0].finished()
    with pytest.raises(RankError, match="rank 1: "):
        pair[0].gather(1)  # does not wait for one who will not come
    assert pair[1].finished() == 1  # its own failure is not news to it


def test_a_silent_rank_counts_as_dead(pair, monkeypatch):
    pair[1].leave()  # or it might find rank 0 silent first
    monkeypatch.setattr(module, "SILENCE", 0.2)
    with pytest.raises(RankError, match="rank 1 did not respond for 0 s"):
        pair[0].gather("waits for rank 1")


class _Broken:
    def add(self, *_):
        raise RuntimeError("Connection reset by peer\nframe #0: 0x7f")

    check = add


def test_a_store_that_is_gone_is_an_error_of_one_line():
    ranks = StoreRanks(_Broken(), 0, 2, 2)
    with pytest.raises(
        RankError, match=r"died: Connection reset by peer\. Completed results are kept"
    ):
        list(ranks.claims(3))
    ranks.fail("nobody hears it")
    ranks.leave()


class _Spoken(SingleRank):
    """Ranks whose gatherings are written beforehand."""

    def __init__(self, number, change):
        super().__init__()
        self.number, self.size, self._change = number, 2, change

    def gather(self, mine):
        return [mine, self._change(mine)]


def test_ranks_of_other_images_or_settings_are_refused(voc, tmp_path):
    for change in (lambda mine: ("other", *mine[1:]), lambda mine: (*mine[:2], {"crop": 3})):
        with pytest.raises(UsageError, match="ranks 0 and 1 were given other images"):
            evaluate(voc[0], Brightest(), tmp_path, CROP, ranks=_Spoken(0, change))


def test_ranks_without_a_shared_folder_are_refused(voc, tmp_path):
    ranks = _Spoken(1, lambda mine: mine)
    with pytest.raises(UsageError, match="rank 1 does not find what rank 0 wrote there"):
        evaluate(voc[0], Brightest(), tmp_path / "mine alone", CROP, ranks=ranks)
    assert not (tmp_path / "mine alone").exists()


@pytest.mark.parametrize(
    "values", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}]
)
def test_other_variables_than_torchruns_are_refused(monkeypatch, values):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="not what torchrun sets"), evaluation_ranks():
        pass


def test_without_torchrun_one_process_is_all():
    with evaluation_ranks() as ranks:
        assert list(ranks.claims(3)) == [0, 1, 2]
        assert [ranks.finished(), ranks.finished()] == [1, 2]
        assert ranks.gather("x") == ["x"]
        assert list(ranks.claims(2)) == [0, 1]
        assert ranks.finished() == 1


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from caffe_port.data.voc import voc_items
from caffe_port.errors import CaffePortError
from caffe_port.ranks import evaluation_ranks
from tests import preloaded
from tests.evaluation.standins import CROP, Brightest, Swaps, evaluate

out = Path(sys.argv[2])
try:
    with evaluation_ranks() as ranks:
        if sys.argv[3] == "dies" and ranks.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        result = evaluate(voc_items(sys.argv[1]), Brightest(), out / "maps", CROP,
                          make_refiner=Swaps(), ranks=ranks)
        again = evaluate(voc_items(sys.argv[1]), Brightest(), out / "again", CROP, ranks=ranks)
        assert (again.before.counts == result.before.counts).all()
        found = [result.before.counts.tolist(), result.after.counts.tolist(),
                 result.changes.tolist(), [x.id for x in result.outcomes]]
        (out / f"{ranks.number}.json").write_text(json.dumps(found))
except CaffePortError as error:
    (out / f"error{ranks.number}").write_text(str(error))
    sys.exit(2)
"""


def run(tmp_path, what, size):
    """The script in ``size`` processes, on 60 images."""
    make_voc(tmp_path / "voc", 60)
    preloaded.write_commands(tmp_path, {"rank": ["-c", SCRIPT]})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size),
               "--no-python", tmp_path / "rank", tmp_path / "voc", tmp_path, what]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return preloaded.run(command, env=environment)


def test_two_processes_give_what_one_gives(tmp_path):
    done = run(tmp_path, "lives", 2)
    assert done.returncode == 0, done.stderr
    items = voc_items(tmp_path / "voc")
    one = evaluate(items, Brightest(), tmp_path / "one", CROP, make_refiner=Swaps())
    want = [one.before.counts.tolist(), one.after.counts.tolist(), one.changes.tolist()]
    for number in range(2):
        found = json.loads((tmp_path / f"{number}.json").read_text())
        assert found == [*want, [item.id for item in items]]
    for path in (tmp_path / "one").rglob("*.png"):
        other = tmp_path / "maps" / path.relative_to(tmp_path / "one")
        assert other.read_bytes() == path.read_bytes()


def test_a_process_that_dies_ends_the_others(tmp_path):
    done = run(tmp_path, "dies", 2)
    assert done.returncode != 0
    assert (tmp_path / "error0").exists(), done.stderr
    words = (tmp_path / "error0").read_text()
    assert "asked to end, as torchrun does when another process ended" in words
    assert not (tmp_path / "0.json").exists()
