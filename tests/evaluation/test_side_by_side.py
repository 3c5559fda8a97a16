"""The refinement in threads during the network: the same results, and truly concurrent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from caffe_port.data.images import read_labels
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.network import Network
from tests.evaluation.standins import CROP, Brightest, Refuses, Swaps, evaluate
from tests.waiting import LIMIT


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_threads_change_nothing(voc, tmp_path, threads):
    items = voc[0]
    one, other = (
        evaluate(
            items, Brightest(), tmp_path / str(n), CROP, make_refiner=Swaps(), refiner_threads=n
        )
        for n in (0, threads)
    )
    assert [x.id for x in other.outcomes] == [x.id for x in one.outcomes]
    assert np.array_equal(one.after.counts, other.after.counts)
    for item in items:
        assert np.array_equal(
            read_labels(one.store.after(item.id)), read_labels(other.store.after(item.id))
        )


@dataclass(frozen=True)
class Counting(Brightest):
    """A network that says when it has begun its second image."""

    second: threading.Event | None = None

    def __call__(self):
        calls = []

        def classify(x):
            calls.append(1)
            if len(calls) == 2:
                self.second.set()
            return x.copy()

        return Network(classify)


@dataclass(frozen=True)
class Waiting(Swaps):
    """A refinement that cannot finish before the network's second image has begun."""

    second: threading.Event | None = None

    def __call__(self, threads):
        def refiner(scores, image):
            assert self.second.wait(LIMIT), "the network waited for the refinement"
            return scores.argmax(0).astype(np.uint8)

        return refiner


def test_the_network_runs_while_an_image_is_refined(voc, tmp_path):
    second = threading.Event()
    result = evaluate(
        voc[0],
        Counting(second=second),
        tmp_path / "out",
        CROP,
        make_refiner=Waiting(second),
        jobs=1,
        refiner_threads=1,
    )
    assert len(result.outcomes) == len(voc[0])


def test_label_maps_on_disk_are_used_again(voc, tmp_path):
    for reused in (False, True):
        result = evaluate(
            voc[0], Brightest(), tmp_path, CROP, make_refiner=Swaps(), refiner_threads=2
        )
        assert {outcome.reused for outcome in result.outcomes} == {reused}


def test_a_bad_image_stops_it_or_is_skipped(voc, tmp_path):
    voc[0][1].image.write_bytes(b"")
    options = {"make_refiner": Swaps(), "refiner_threads": 2}
    with pytest.raises(DataError, match=r"im1\.png: not an image"):
        evaluate(voc[0], Brightest(), tmp_path / "a", CROP, **options)
    result = evaluate(voc[0], Brightest(), tmp_path / "b", CROP, skip_bad=True, **options)
    assert [outcome.id for outcome in result.skipped] == ["im1"]


def test_a_network_that_cannot_be_built_and_wrong_numbers(voc, tmp_path):
    options = {"make_refiner": Swaps()}
    with pytest.raises(CaffePortError, match="not the net's"):
        evaluate(voc[0], Refuses(), tmp_path, CROP, refiner_threads=1, **options)
    with pytest.raises(UsageError, match="-1 threads that refine"):
        evaluate(voc[0], Brightest(), tmp_path, CROP, refiner_threads=-1, **options)


@dataclass(frozen=True)
class Elsewhere(Counting):
    """A network that is not on the CPU, and says which threads it ran in."""

    on_cpu: bool = False
    threads: set = field(default_factory=set)

    def __call__(self):
        def classify(x):
            self.threads.add(threading.get_ident())
            return x.copy()

        return Network(classify)


@dataclass(frozen=True)
class Refining(Swaps):
    """Says which threads it ran in."""

    threads: set = field(default_factory=set)

    def __call__(self, threads):
        def refiner(scores, image):
            self.threads.add(threading.get_ident())
            return scores.argmax(0).astype(np.uint8)

        return refiner


def test_a_network_on_another_device_has_its_own_thread(voc, tmp_path):
    network, refinement = Elsewhere(), Refining()
    evaluate(voc[0], network, tmp_path, CROP, make_refiner=refinement)
    assert len(network.threads) == 1
    assert not network.threads & refinement.threads
